// Keeps the live part of a page as the daemon says it is, and never lets an old one pass for new: whenever the daemon
// was not heard for a while, the page says so and turns grey until it is heard again.

const SILENCE = 10_000; // The daemon says something every three seconds.
const AGAIN = 3_000;

const part = document.getElementById('live');
const note = document.getElementById('link');
const asOf = document.getElementById('as-of');
let source = null;
let watch = 0;
let retry = 0;

// Makes an element like another one and touches only what differs, so that focus and selection stay where they are.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = wanted.id ? byId.get(wanted.id) : place && !place.id && place.nodeName === wanted.nodeName ? place : null;
    if (!known) {
      old.insertBefore(wanted, place);
      continue;
    }
    if (known === place) place = place.nextSibling;
    else old.insertBefore(known, place);
    if (known.nodeType === Node.ELEMENT_NODE) morph(known, wanted);
    else if (known.data !== wanted.data) known.data = wanted.data;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function heard(at) {
  clearTimeout(watch);
  watch = setTimeout(() => lost('The daemon was not heard for a while'), SILENCE);
  document.body.classList.remove('old');
  note.hidden = true;
  if (at && asOf) asOf.textContent = at;
}

function stale(why) {
  document.body.classList.add('old');
  const text = `${why}: what is shown here is of ${asOf.textContent} and may not be so any more. Trying again…`;
  if (note.textContent !== text) note.textContent = text;
  note.hidden = false;
}

function close() {
  clearTimeout(watch);
  clearTimeout(retry);
  source?.close();
  source = null;
}

// Grey at once, and asked anew after a moment: a browser gives up by itself after some kinds of answers.
function lost(why) {
  close();
  stale(why);
  retry = setTimeout(async () => {
    // Whoever is signed out is sent to sign in, and their page must follow.
    const answer = await fetch(location.href, { method: 'HEAD', redirect: 'manual', cache: 'no-store' }).catch(() => null);
    if (answer?.type === 'opaqueredirect' || answer?.status === 401) location.reload();
    else if (!document.hidden) open();
  }, AGAIN);
}

function open() {
  close();
  watch = setTimeout(() => lost('The daemon was not heard for a while'), SILENCE);
  source = new EventSource(location.href);
  source.addEventListener('part', ({ data }) => {
    const { at, html } = JSON.parse(data);
    const fresh = document.createElement('div');
    fresh.id = part.id;
    fresh.innerHTML = html;
    morph(part, fresh);
    heard(at);
  });
  source.addEventListener('beat', ({ data }) => heard(JSON.parse(data).at));
  source.addEventListener('trouble', ({ data }) => {
    const { text, gone } = JSON.parse(data);
    if (gone) {
      close();
      document.body.classList.add('old');
      note.textContent = `${text[0].toUpperCase()}${text.slice(1)} any more.`;
      note.hidden = false;
    } else {
      lost(text);
    }
  });
  source.addEventListener('signed-out', () => location.reload());
  source.addEventListener('error', () => lost('The connection to the daemon is lost'));
}

// A page that nobody sees follows nothing: browsers allow six connections to a host, and each page takes one.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) close();
  else open();
  if (!document.hidden) stale('This page was in the background');
});
window.addEventListener('pagehide', close);
window.addEventListener('pageshow', ({ persisted }) => persisted && open());
if (!document.hidden) open();
