/* Light or dark: what the system prefers, until the switch says otherwise. In: the button. Out: data-theme of the page. */
import { isDark } from "./colors.js";
import { replace } from "./dom.js";
import { icon } from "./icons.js";

const KEY = "qarm-theme";

/** Let a button switch between light and dark, and call back whenever it changed. */
export function startTheme(button, changed) {
  const stored = remembered();
  if (stored) document.documentElement.dataset.theme = stored;
  label(button);
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    remember(document.documentElement.dataset.theme);
    label(button);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    label(button);
    changed();
  });
}

function label(button) {
  replace(button, icon(isDark() ? "sun" : "moon"));
  button.setAttribute("aria-label", isDark() ? "Switch to light" : "Switch to dark");
  button.title = button.getAttribute("aria-label");
}

// A page from a file may have no storage.
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // The choice holds until the page is closed.
  }
}
