#!/usr/bin/env node
// A browser's first visit to a NocoBase that sleeps: the waiting page, the sign-in, the first page behind it.
//
//   browser.cjs FOLDER INSTALL URL APP ACCOUNT PASSWORD OTHER-URL
//
// FOLDER takes the browser's profile and its pictures, INSTALL is a NocoBase (its WebSocket client is used), APP is sent
// as X-App with every request, as a proxy in front would. OTHER-URL is only looked at, without X-App.
// Prints what was seen as JSON, one key per fact.
'use strict';
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [folder, install, url, account, password] = process.argv.slice(2);
const WebSocket = require(path.join(install, 'node_modules/ws'));
const seen = { waiting: false, progress: [], sign_in_ms: null, signed_in: false, page: '', failed: [] };
const begun = Date.now();

// A group of its own, so that all of it can be ended by its number.
const chromium = spawn('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
  '--remote-debugging-port=0', `--user-data-dir=${folder}/profile`,
  '--window-size=1280,800', 'about:blank'],
  { detached: true, stdio: ['ignore', fs.openSync(`${folder}/browser.log`, 'a'), fs.openSync(`${folder}/browser.log`, 'a')],
    env: { PATH: process.env.PATH, HOME: folder } });

function end(status) {
  try { process.kill(-chromium.pid, 'SIGKILL'); } catch { /* it is gone */ }
  console.log(JSON.stringify(seen));
  process.exit(status);
}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Asks every 100 ms until there is an answer.
async function until(seconds, what, ask) {
  for (const limit = Date.now() + seconds * 1000; Date.now() < limit; await sleep(100)) {
    const answer = await ask().catch(() => null);
    if (answer) return answer;
  }
  throw new Error(`waited ${seconds} s in vain for: ${what}`);
}

async function connect() {
  const file = path.join(folder, 'profile/DevToolsActivePort');
  const port = await until(30, 'the browser', async () => fs.readFileSync(file, 'utf8').split('\n')[0]);
  const tabs = await until(10, 'a tab', async () =>
    (await (await fetch(`http://127.0.0.1:${port}/json`)).json()).filter((tab) => tab.type === 'page'));
  const socket = new WebSocket(tabs[0].webSocketDebuggerUrl);
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  return socket;
}

async function main() {
  const socket = await connect();
  const answers = new Map();
  let last = 0;
  socket.on('message', (text) => {
    const message = JSON.parse(text);
    if (message.id) answers.get(message.id)(message.result ?? {});
    const response = message.params?.response;
    // The waiting page is a 503 on purpose, and before the sign-in 401 is right; everything else of the page should come.
    if (message.method === 'Network.responseReceived' && response.status >= 400 && response.status !== 401 &&
        !('x-app-waiting' in response.headers)) {
      seen.failed.push(`${response.status} ${new URL(response.url).pathname}`);
    }
  });
  const call = (method, params = {}) => new Promise((resolve) => {
    answers.set(++last, resolve);
    socket.send(JSON.stringify({ id: last, method, params }));
  });
  const page = async (expression) => (await call('Runtime.evaluate', { expression, returnByValue: true })).result?.value;
  const picture = async (name) => {
    const { data } = await call('Page.captureScreenshot');
    fs.writeFileSync(`${folder}/${name}.png`, Buffer.from(data ?? '', 'base64'));
  };
  const type = async (field, text) => {
    await page(`document.querySelector(${JSON.stringify(field)}).focus()`);
    await call('Input.insertText', { text });
  };

  await call('Network.enable');
  await call('Page.enable');
  await call('Page.navigate', { url });
  await until(120, 'the sign-in', async () => {
    const waits = await page(`document.querySelector('h1')?.textContent.endsWith(' is starting') &&
      [...document.querySelectorAll('main p')].map((p) => p.textContent).join(' | ')`);
    if (waits) {
      seen.waiting = true;
      if (seen.progress.at(-1) !== waits) seen.progress.push(waits);
      if (seen.progress.length === 3) await picture('waiting');
    }
    return page(`!!document.querySelector('input[type=password]')`);
  });
  seen.sign_in_ms = Date.now() - begun;
  await picture('sign-in');
  await type('input:not([type=password])', account);
  await type('input[type=password]', password);
  await page(`document.querySelector('button[type=submit], form button.ant-btn-primary').click()`);
  await until(60, 'the page behind the sign-in', () => page(
    `location.pathname.includes('/admin') && !document.querySelector('input[type=password]') &&
     document.querySelectorAll('.ant-layout, header').length > 0`));
  seen.signed_in = true;
  seen.page = await page('location.pathname');
  await picture('signed-in');
}

setTimeout(() => end(1), 400_000).unref();
process.on('SIGTERM', () => end(1));
main().then(() => end(0), (error) => { console.error(error.message); end(1); });
