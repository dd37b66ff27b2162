// Small things of the page itself.

export function element(id) {
  return document.getElementById(id);
}

/** Make an element: tag, properties, children. */
export function made(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const found = Object.assign(document.createElement(tag), rest);
  Object.assign(found.dataset, dataset);
  found.append(...children);
  return found;
}

/** Tell those who hear the page rather than see it. */
export function say(text) {
  element("status").textContent = text;
}

/** Give the user a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  made("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
