/* Colors of codes and of values, equally light to the eye. In: a code or a share. Out: a CSS color. */

const GOLDEN = 137.508; // degrees; neighbors in number are far apart in hue

/** Say whether the page is dark. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Return the color of a code on which white text can be read: its contrast is at least 4.5. */
export function codeColor(code) {
  return oklch(0.465 + 0.035 * (code % 3), 0.13, (code * GOLDEN + 285) % 360);
}

/** Return the color of a code for points on the ground of a page. */
export function pointColor(code) {
  return oklch((isDark() ? 0.7 : 0.58) + 0.04 * (code % 3), 0.14, (code * GOLDEN + 285) % 360);
}

/** Return a pale color of the same hue for chips of deeper levels. */
export function paleColor(code) {
  return isDark() ? oklch(0.34, 0.06, (code * GOLDEN + 285) % 360) : oklch(0.92, 0.045, (code * GOLDEN + 285) % 360);
}

/** Return a color between few (0) and many (1), on which white text can be read. */
export function heat(share) {
  const s = Math.max(0, Math.min(1, share));
  return oklch(0.42 + 0.16 * s, 0.05 + 0.12 * s, (260 + 130 * s) % 360);
}

/** Return the value of a color that the style sheets name. */
export function named(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * Return a color of the space OKLCH as #rrggbb, which every canvas takes.
 * Source: Ottosson, "A perceptual color space for image processing".
 */
export function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const rgb = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return `#${rgb.map((one) => gamma(one).toString(16).padStart(2, "0")).join("")}`;
}

function gamma(linear) {
  const x = Math.max(0, Math.min(1, linear));
  return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
}
