/* Numbers, times and prefixes as people read them. In: values of the contract. Out: text. */

const whole = new Intl.NumberFormat("en");

/** Return a number with its thousands apart. */
export function count(number) {
  return whole.format(number);
}

/** Return a number and its noun, such as "1 item" or "2,000 items". */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** Return a share as percent. */
export function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`;
}

/** Return a value of a figure with four digits that say something. */
export function value(number) {
  if (Number.isInteger(number) && Math.abs(number) >= 10) return count(number);
  return Math.abs(number) >= 100 ? count(Math.round(number)) : String(Number(number.toPrecision(4)));
}

/** Return the day and time of an ISO time in UTC. */
export function moment(time) {
  return time ? `${time.slice(0, 10)} ${time.slice(11, 16)} UTC` : "at an unknown time";
}

/** Return the day of an ISO time. */
export function day(time) {
  return time ? time.slice(0, 10) : "unknown";
}

/** Return the codes of a prefix such as "12.3". */
export function codesOf(prefix) {
  return prefix === "" ? [] : prefix.split(".").map(Number);
}

/** Return the title of an item, or its ID where it has none. */
export function titleOf(item) {
  return item.title.trim() || item.item_id;
}
