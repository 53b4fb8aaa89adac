// Uses the page as a visitor does, in headless Chromium: node check.mjs URL FOLDER
// Writes screenshots into FOLDER. Fails on an assertion, an error of the console or of the page, and on any
// request to another host.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [base, folder] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, args });
const TEXT = "Where is the train station?\nTom wants to know why the children were not at school yesterday.";

/** A page whose errors end the test. */
async function open(options = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(base)) problems.push(`a request to ${request.url()}`);
  });
  await page.goto(base);
  return { page, context, problems };
}

const results = (page) => page.locator(".pane.result:visible");
const translation = (page, i) => page.locator(".pane.result .translation").nth(i);

async function translated(page, i = 0) {
  await page.waitForFunction((i) => {
    const region = document.querySelectorAll(".pane.result .translation")[i];
    return region.textContent.trim() && region.ariaBusy === "false";
  }, i);
  return translation(page, i).textContent();
}

async function shot(page, name) {
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

const checks = {
  async "typing translates with two step counts and their times"() {
    const { page, context, problems } = await open();
    await page.getByRole("textbox", { name: "Text", exact: true }).pressSequentially(TEXT, { delay: 5 });
    assert.match(await translated(page, 0), /\S/);
    assert.match(await translated(page, 1), /\S/);
    assert.equal(await results(page).count(), 2);
    for (const time of await page.locator(".times dd").allTextContents()) assert.match(time, /^[\d.,]+ ms$/);
    assert.equal((await translation(page, 0).textContent()).split("\n").length, 2, "line breaks are kept");
    await shot(page, "desktop-light");
    return { context, problems };
  },

  async "step counts, confidence, canvas and alternatives"() {
    const { page, context, problems } = await open({ colorScheme: "dark" });
    await page.locator("#text").fill(TEXT);
    for (const name of ["Confidence", "Step by step", "Alternatives"]) await page.getByRole("checkbox", { name }).check();
    const second = page.getByRole("slider").nth(1);
    await second.focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowRight");
    assert.equal(await second.inputValue(), "7");
    await page.waitForFunction(() => document.querySelectorAll(".canvas")[1].children.length > 1);
    await page.waitForFunction(() => document.querySelectorAll(".others:not([hidden])").length === 2);
    await page.waitForFunction(() => [...document.querySelectorAll(".others")].every((others) => others.querySelectorAll("li:not(.note)").length === 3));
    assert.ok(await page.locator(".others .differs").count() > 0, "what differs is marked");
    assert.match(await page.locator(".key:visible").first().textContent(), /empty slot/);
    assert.match(await page.locator(".remark").first().textContent(), /Confidence \d+/);
    const word = page.locator(".word[data-percent]").first();
    assert.match(await word.getAttribute("data-percent"), /^\d+\s?%$/);
    await page.waitForTimeout(2500);
    await shot(page, "desktop-dark");
    await page.getByRole("checkbox", { name: "Two step counts" }).uncheck();
    assert.equal(await results(page).count(), 1);
    await translated(page);
    await page.waitForTimeout(1000);
    await shot(page, "desktop-one");
    return { context, problems };
  },

  async "a glossary goes with the request, and a translation to the clipboard"() {
    const { page, context, problems } = await open({ permissions: ["clipboard-read", "clipboard-write"] });
    await page.locator("#text").fill("The station is closed.");
    await translated(page);
    await page.getByText("Glossary", { exact: true }).click();
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.postDataJSON()?.glossary);
    await page.locator("#glossary").fill("station = Hauptbahnhof\nno term");
    assert.deepEqual((await sent).postDataJSON().glossary, { station: "Hauptbahnhof" });
    assert.match(await page.locator("#glossary-error").textContent(), /Line 2/);
    await translated(page);
    await page.getByRole("button", { name: "Copy" }).first().click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await translation(page, 0).textContent());
    return { context, problems };
  },

  async "choices are kept, and the page is there at once"() {
    const { page, context, problems } = await open({ colorScheme: "light" });
    await page.getByRole("button", { name: "Dark" }).click();
    await page.getByRole("button", { name: "Deutsch" }).click();
    await page.reload();
    await page.getByRole("button", { name: "Hell" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
    console.log(`        first paint after ${paint.toFixed(0)} ms`);
    assert.ok(paint < 2000, `${paint} ms`);
    return { context, problems };
  },

  async "German at 360 pixels, nothing wider than the screen"() {
    const { page, context, problems } = await open({ locale: "de-DE", viewport: { width: 360, height: 740 } });
    assert.equal(await page.locator("html").getAttribute("lang"), "de");
    await page.locator("#text").fill(TEXT);
    await translated(page, 1);
    await page.getByRole("checkbox", { name: "Sicherheit" }).check();
    await translated(page, 1);
    await page.waitForTimeout(300);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${width} pixels wide`);
    await shot(page, "narrow");
    await page.getByRole("button", { name: "English" }).click();
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    return { context, problems };
  },

  async "the keyboard reaches every control in the order of reading"() {
    const { page, context, problems } = await open();
    await page.waitForFunction(() => document.querySelector("#source").options.length > 0);
    assert.equal(await page.evaluate(() => document.activeElement.id), "text", "the text has the focus");
    await page.evaluate(() => {
      const title = document.querySelector("h1");
      title.tabIndex = -1;
      title.focus();
    });
    const seen = [];
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const { activeElement: active } = document;
        const { x, y, width } = active.getBoundingClientRect();
        const name = active.ariaLabel || active.labels?.[0]?.textContent.trim() || active.textContent.trim();
        return { tag: active.tagName, key: active.id || active.className || active.type, name, x, y, width };
      });
      if (at.tag === "BODY" || seen.some((one) => one.key === at.key && one.x === at.x && one.y === at.y)) break;
      seen.push(at);
    }
    const keys = seen.map(({ key }) => key);
    for (const id of ["ui-language", "theme", "source", "target", "text", "clear", "compare", "confidence", "canvas", "alternatives"]) {
      assert.ok(keys.includes(id), `Tab never reaches #${id}: ${keys}`);
    }
    assert.deepEqual(keys.filter((key) => ["source", "target", "text", "compare"].includes(key)), ["source", "target", "text", "compare"]);
    for (const { key, name } of seen) assert.ok(name, `${key} has no name`);
    return { context, problems };
  },

  async "contrast of all text is at least 4.5 in both appearances"() {
    const all = [];
    let last;
    for (const colorScheme of ["light", "dark"]) {
      last = await open({ colorScheme });
      const { page } = last;
      await page.locator("#text").fill(TEXT);
      for (const name of ["Confidence", "Step by step", "Alternatives"]) await page.getByRole("checkbox", { name }).check();
      await translated(page, 1);
      await page.waitForTimeout(2000);
      const poor = await page.evaluate(contrasts);
      all.push(...poor.map((one) => `${colorScheme}: ${one}`));
      if (colorScheme === "light") {
        assert.deepEqual(last.problems, []);
        await last.context.close();
      }
    }
    assert.deepEqual(all, []);
    return last;
  },

  async "a stopped server and a bad request are explained, and a retry recovers"() {
    const { page, context, problems } = await open();
    await page.locator("#text").fill(TEXT);
    await translated(page);
    await page.route("**/translate", (route) => route.abort());
    await page.locator("#text").fill("Hello.");
    await page.getByRole("alert").filter({ hasText: "does not answer" }).waitFor();
    await page.unroute("**/translate");
    await page.route("**/translate", (route) => route.fulfill({ status: 429, headers: { "retry-after": "1" }, json: { error: "Slowdown" } }));
    await page.locator("#text").fill("Hello again.");
    await page.getByRole("alert").filter({ hasText: "busy" }).waitFor();
    await page.unroute("**/translate");
    await page.getByRole("alert").waitFor({ state: "hidden" });
    await translated(page);
    await page.locator("#text").fill("");
    await page.waitForFunction(() => !document.querySelector(".translation").textContent);
    // Chromium itself reports both failures.
    assert.ok(problems.every((problem) => /Failed to load resource/.test(problem)), problems.join("\n"));
    return { context, problems: [] };
  },

  async "text of the server is never markup"() {
    const { page, context, problems } = await open();
    const evil = "<img src=x onerror=alert(1)><b>bold</b>";
    await page.route("**/translate", (route) => route.fulfill({ json: { translatedText: evil, alternatives: [evil] } }));
    await page.getByRole("checkbox", { name: "Alternatives" }).check();
    await page.locator("#text").fill("Hello.");
    assert.equal(await translated(page), evil);
    assert.equal(await page.locator(".pane img, .pane b").count(), 0);
    return { context, problems };
  },
};

/** In the page: texts whose colour is too near to their ground. */
function contrasts() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], alpha: a / 255 };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const { rgb, alpha } = rgba(getComputedStyle(at).backgroundColor);
      if (alpha > 0.99) return rgb;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest(".hidden, script, template")) continue;
    const [text, ground] = [luminance(rgba(getComputedStyle(node).color).rgb), luminance(groundOf(node))];
    const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (ratio < 4.5) poor.add(`${node.tagName}.${node.className} ${JSON.stringify(node.textContent.slice(0, 30))}: ${ratio.toFixed(2)}`);
  }
  return [...poor];
}

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    const { context, problems } = await check();
    assert.deepEqual(problems, []);
    await context.close();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
