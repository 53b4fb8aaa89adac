// The page at `/`: translates while the user types, with one or two step counts. Plain JavaScript; every text
// from the server is inserted as text, never as HTML.
"use strict";

const DEBOUNCE_MS = 180;
// Screen readers get the translation after a pause in typing.
const ANNOUNCE_MS = 1200;
// Delay between two lines of a canvas, so that the reader can follow.
const STEP_MS = 280;
const ALTERNATIVES = 3;
const DETECT = "auto";

const STRINGS = {
  en: {
    tagline: "All words at once, in as many steps as you choose",
    dark: "Dark", light: "Light", from: "From", to: "To", swap: "Swap the languages", text: "Text",
    placeholder: "Type or paste a text", clear: "Clear", key: "API key", useKey: "Use it",
    options: "What is shown", compare: "Two step counts", confidence: "Confidence", canvas: "Step by step",
    alternatives: "Alternatives", noAlternatives: "There are no others.", glossary: "Glossary",
    glossaryHelp: "One term a line: term = translation",
    glossaryWrong: "Line {line} is not “term = translation”.",
    docs: "API documentation", steps: "Steps", server: "Server", roundTrip: "Round trip", replay: "Play again",
    copy: "Copy", copied: "Copied", copyFailed: "Copying failed", detect: "Detect language",
    detected: "{language} detected ({percent})", count: "{count} of {limit} characters",
    translation: "Translation, steps: {steps}", step: "Step {step}:", open: "…",
    canvasKey: "A dot is an empty slot. A grey word repeats the one before it; the two become one.",
    sure: "Confidence {percent}.", leastSure: "Confidence {percent}. Least certain: {words}.",
    model: "Model {name}, {dtype} on {device}, version {version}",
    offline: "The server does not answer. Is it still running?",
    busy: "The server is busy. The page tries again in {seconds} s.",
    refused: "The server refused the request: {reason}",
    wait: "The model is not ready yet. The page tries again in {seconds} s.",
    not_source_language: "This does not look like the chosen source language.",
    uncertain: "The model is not certain of this translation.",
    short: "The translation may lack a part of the text.",
    long: "The translation may say more than the text.",
    split: "A long sentence was translated in parts.",
  },
  de: {
    tagline: "Alle Wörter auf einmal, in Schritten nach Wahl",
    dark: "Dunkel", light: "Hell", from: "Von", to: "Nach", swap: "Sprachen tauschen", text: "Text",
    placeholder: "Text eingeben oder einfügen", clear: "Leeren", key: "API-Schlüssel", useKey: "Verwenden",
    options: "Was gezeigt wird", compare: "Zwei Schrittzahlen", confidence: "Sicherheit",
    canvas: "Schritt für Schritt", alternatives: "Alternativen", noAlternatives: "Es gibt keine anderen.",
    glossary: "Glossar", glossaryHelp: "Ein Begriff je Zeile: Begriff = Übersetzung",
    glossaryWrong: "Zeile {line} hat nicht die Form „Begriff = Übersetzung“.",
    docs: "API-Dokumentation", steps: "Schritte", server: "Server", roundTrip: "Gesamt", replay: "Noch einmal",
    copy: "Kopieren", copied: "Kopiert", copyFailed: "Kopieren misslang", detect: "Automatisch",
    detected: "{language} erkannt ({percent})", count: "{count} von {limit} Zeichen",
    translation: "Übersetzung, Schritte: {steps}", step: "Schritt {step}:", open: "…",
    canvasKey: "Ein Punkt ist ein leerer Platz. Ein graues Wort wiederholt das vorige; beide werden eins.",
    sure: "Sicherheit {percent}.", leastSure: "Sicherheit {percent}. Am wenigsten sicher: {words}.",
    model: "Modell {name}, {dtype} auf {device}, Version {version}",
    offline: "Der Server antwortet nicht. Läuft er noch?",
    busy: "Der Server ist ausgelastet. Nächster Versuch in {seconds} s.",
    refused: "Der Server hat die Anfrage abgelehnt: {reason}",
    wait: "Das Modell ist noch nicht bereit. Nächster Versuch in {seconds} s.",
    not_source_language: "Der Text scheint nicht in der gewählten Ausgangssprache zu sein.",
    uncertain: "Das Modell ist sich dieser Übersetzung nicht sicher.",
    short: "In der Übersetzung fehlt vielleicht ein Teil des Textes.",
    long: "Die Übersetzung sagt vielleicht mehr als der Text.",
    split: "Ein langer Satz wurde in Teilen übersetzt.",
  },
};

// The choices of the user, stored in the browser if that is allowed. Texts are not stored.
const choices = { ui: null, theme: null, compare: true, confidence: false, canvas: false, alternatives: false, steps: null };

function readChoices() {
  try {
    Object.assign(choices, JSON.parse(localStorage.getItem("tutti") ?? "{}"));
  } catch { /* Storage is blocked or its content is invalid: the defaults apply. */ }
  if (!(choices.ui in STRINGS)) {
    const languages = navigator.languages ?? [navigator.language];
    choices.ui = languages.map((code) => code.slice(0, 2)).find((code) => code in STRINGS) ?? "en";
  }
}

function keepChoices() {
  try {
    localStorage.setItem("tutti", JSON.stringify(choices));
  } catch { /* Then the choices last until the page is closed. */ }
}

const isDark = () =>
  choices.theme ? choices.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

function showTheme() {
  if (choices.theme) document.documentElement.dataset.theme = choices.theme;
}

// Before the first paint.
readChoices();
showTheme();

const byId = (id) => document.getElementById(id);
const url = (path) => new URL(path, document.baseURI);

function t(key, values = {}) {
  return STRINGS[choices.ui][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
const percent = (share) => new Intl.NumberFormat(choices.ui, { style: "percent", maximumFractionDigits: 0 }).format(share);
const milliseconds = (ms) =>
  `${new Intl.NumberFormat(choices.ui, { maximumFractionDigits: ms < 10 ? 1 : 0 }).format(ms)} ms`;

function languageName(code) {
  const known = languages.find((language) => language.code === code);
  try {
    return new Intl.DisplayNames([choices.ui], { type: "language" }).of(code);
  } catch {
    return known?.name ?? code;
  }
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Requests */

let languages = [];
let limits = { characters: 0, steps: 10 };
let detects = false;
let apiKey = "";

/** An error response of the server. */
class Refused extends Error {
  constructor(status, reason, retryAfter) {
    super(reason);
    Object.assign(this, { status, retryAfter });
  }
}

/** Sends a request. Throws if the response is an error. */
async function send(path, body, signal) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (apiKey) headers.authorization = `Bearer ${apiKey}`;
  const sent = body && apiKey ? { ...body, api_key: apiKey } : body;
  const response = await fetch(url(path), {
    method: body ? "POST" : "GET", headers, body: body && JSON.stringify(sent), signal,
  });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Refused(response.status, error ?? response.statusText, Number(response.headers.get("retry-after")));
  }
  return response;
}

async function request(path, body, signal) {
  const begun = performance.now();
  const response = await send(path, body, signal);
  const answer = await response.json();
  return { answer, wall: performance.now() - begun, server: serverTime(response.headers.get("server-timing")) };
}

/** The same with server-sent events: `onStep` gets each canvas when it arrives. */
async function requestSteps(body, signal, onStep) {
  const begun = performance.now();
  const response = await send("translate/stream", body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let received = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new TypeError("the stream ended before the answer");
    const events = (received + value.replaceAll("\r", "")).split("\n\n");
    received = events.pop();
    for (const event of events) {
      const field = (name) => new RegExp(`^${name}: ?(.*)$`, "m").exec(event)?.[1];
      const data = JSON.parse(field("data") ?? "null");
      if (field("event") === "step") onStep(data);
      else if (field("event") === "error") throw new Refused(0, data.error);
      else if (field("event") === "done") {
        return { answer: data, wall: performance.now() - begun, server: data.meta?.timings_ms?.total ?? null };
      }
    }
  }
}

/** The total of a Server-Timing header in ms. */
function serverTime(header) {
  const total = /(?:^|[\s,])total;dur=([\d.]+)/.exec(header ?? "");
  return total ? Number(total[1]) : null;
}

/* Words */

/** Which items of `b` are not part of the longest common subsequence with `a`. */
function differing(a, b) {
  if (a.length * b.length > 250_000) return b.map(() => false);
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * width + j] = a[i] === b[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const differs = b.map(() => true);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      differs[j] = false;
      i++;
      j++;
    } else if (common[(i + 1) * width + j] >= common[i * width + j + 1]) i++;
    else j++;
  }
  return differs;
}

/** Words and the white space between them, in order. */
const parts = (text) => text.match(/\s+|\S+/gu) ?? [];
const isSpace = (part) => /^\s/u.test(part);

/** Ranges of `text` with their probability, one for each token. */
function tokenRanges(text, sentences) {
  const ranges = [];
  let place = 0;
  for (const sentence of sentences) {
    const found = text.indexOf(sentence.text, place);
    const end = found < 0 ? text.length : found + sentence.text.length;
    place = Math.max(found, place);
    for (const token of sentence.scores?.tokens ?? []) {
      const word = token.text.trim();
      const start = word ? text.indexOf(word, place) : -1;
      // A token that the text does not contain: a protected span, or a part of a character.
      if (start < 0 || start + word.length > end) continue;
      ranges.push({ start, end: start + word.length, probability: token.probability });
      place = start + word.length;
    }
    place = Math.max(place, found < 0 ? place : end);
  }
  return ranges;
}

/** Each word of `text` with the lowest probability of its tokens, or null. */
function wordsWithProbability(text, sentences) {
  const ranges = tokenRanges(text, sentences);
  let position = 0;
  return parts(text).map((part) => {
    const start = position;
    position += part.length;
    const own = isSpace(part) ? [] : ranges.filter((range) => range.start < position && range.end > start);
    return { part, probability: own.length ? Math.min(...own.map((range) => range.probability)) : null };
  });
}

function unsure(probability) {
  return [0.9, 0.75, 0.5, 0.25].filter((least) => probability < least).length;
}

/* Results */

/** One pane with a translation: its step count, times, canvas and alternatives. */
class Result {
  constructor(steps) {
    const pane = byId("result").content.firstElementChild.cloneNode(true);
    const part = (selector) => pane.querySelector(selector);
    Object.assign(this, {
      pane, answer: null, text: "", lines: [],
      range: part("input"), number: part(".number"), server: part(".server"), wall: part(".wall"),
      translation: part(".translation"), remark: part(".remark"), canvas: part(".canvas"),
      key: part(".key"), others: part(".others"), copyButton: part(".copy"), replayButton: part(".replay"),
    });
    this.setSteps(steps);
    this.range.addEventListener("input", () => {
      this.setSteps(Number(this.range.value));
      choices.steps = results.map((result) => result.steps);
      keepChoices();
      soon();
    });
    this.copyButton.addEventListener("click", () => this.copy());
    this.replayButton.addEventListener("click", () => this.showCanvas(this.lines));
    byId("panes").append(pane);
  }

  setSteps(steps) {
    this.steps = Math.min(steps, limits.steps);
    this.range.max = limits.steps;
    this.range.value = this.steps;
    this.number.textContent = this.steps;
    this.label();
  }

  label() {
    this.translation.setAttribute("aria-label", t("translation", { steps: this.steps }));
  }

  busy(is) {
    this.translation.setAttribute("aria-busy", is);
  }

  async translate(body, signal) {
    this.busy(true);
    try {
      this.showCanvas([]);
      const asked = { ...body, steps: this.steps, scores: choices.confidence };
      const { answer, wall, server } = choices.canvas
        ? await requestSteps(asked, signal, (step) => this.showStep(step))
        : await request("translate", asked, signal);
      this.show(answer);
      this.server.textContent = server === null ? "–" : milliseconds(server);
      this.wall.textContent = milliseconds(wall);
      return answer;
    } finally {
      if (!signal.aborted) this.busy(false);
    }
  }

  show(answer) {
    this.answer = answer;
    this.text = answer.translatedText;
    this.translation.lang = byId("target").value;
    const sentences = answer.meta?.sentences ?? [];
    this.words = wordsWithProbability(this.text, choices.confidence ? sentences : []);
    this.showWords([]);
    this.showRemark(sentences, answer.meta?.warnings ?? []);
  }

  /** `other` has the parts of the other result, whose words need no mark. */
  showWords(other) {
    const own = this.words.map(({ part }) => part);
    const differs = other.length ? differing(other, own) : own.map(() => false);
    this.translation.replaceChildren(...this.words.map(({ part, probability }, i) => {
      const level = probability === null ? 0 : unsure(probability);
      if (isSpace(part) || (probability === null && !differs[i])) return document.createTextNode(part);
      const word = element("span", "word", part);
      if (level) word.classList.add(`unsure-${level}`);
      if (differs[i]) word.classList.add("differs");
      if (probability !== null) word.dataset.percent = percent(probability);
      return word;
    }));
  }

  /** Warnings, and the confidence as text for users who cannot see or hover over the shading. */
  showRemark(sentences, warnings) {
    const remarks = warnings.flatMap((warning) => (warning in STRINGS.en ? [t(warning)] : []));
    const known = sentences.filter((sentence) => sentence.scores);
    if (choices.confidence && known.length) {
      const mean = known.reduce((sum, sentence) => sum + sentence.scores.probability, 0) / known.length;
      const least = this.words
        .filter(({ probability }) => probability !== null && unsure(probability))
        .sort((a, b) => a.probability - b.probability)
        .slice(0, 3)
        .map(({ part, probability }) => `${part} (${percent(probability)})`);
      const values = { percent: percent(mean), words: least.join(", ") };
      remarks.push(t(least.length ? "leastSure" : "sure", values));
    }
    this.remark.textContent = remarks.join(" ");
  }

  /** A step of one sentence. Steps appear one after the other, at a fixed speed. */
  showStep({ sentence, step, slots }) {
    const before = this.lines.at(-1);
    if (step > this.lines.length) {
      // A finished sentence keeps its last canvas.
      const kept = before?.sentences.map((slots) => slots.map((slot) => ({ ...slot, changed: false }))) ?? [];
      const startsAt = Math.max(performance.now(), (before?.startsAt ?? 0) + STEP_MS);
      this.lines.push({ sentences: kept, startsAt, item: element("li") });
      this.canvas.append(this.lines.at(-1).item);
    }
    this.lines.slice(step - 1).forEach((line, i) => {
      line.sentences[sentence] = i ? slots.map((slot) => ({ ...slot, changed: false })) : slots;
      const delay = line.startsAt - performance.now();
      const item = canvasLine(this.lines.indexOf(line), line.sentences, delay);
      line.item.replaceWith(item);
      line.item = item;
    });
    this.canvas.hidden = false;
    this.key.hidden = !this.lines.some((line) => line.sentences.some(collapses));
    this.replayButton.hidden = this.lines.length < 2;
  }

  showCanvas(lines) {
    this.lines = lines;
    this.canvas.replaceChildren(...lines.map((line, i) => {
      line.item = canvasLine(i, line.sentences, i * STEP_MS);
      return line.item;
    }));
    this.canvas.hidden = !lines.length;
    this.key.hidden = !lines.some((line) => line.sentences.some(collapses));
    this.replayButton.hidden = lines.length < 2;
  }

  showAlternatives(texts) {
    this.others.hidden = texts === null;
    const list = this.others.querySelector("ul");
    list.lang = byId("target").value;
    const items = texts?.map((text) => this.alternative(text)) ?? [];
    list.replaceChildren(...(items.length ? items : [element("li", "note", t("noAlternatives"))]));
  }

  /** An alternative, with a mark below the words in which it differs from the translation. */
  alternative(text) {
    const own = parts(text);
    const differs = differing(parts(this.text), own);
    const item = element("li");
    item.append(...own.map((part, i) => (differs[i] && !isSpace(part) ? element("span", "differs", part) : part)));
    return item;
  }

  clear() {
    Object.assign(this, { answer: null, text: "", words: [] });
    this.busy(false);
    this.translation.replaceChildren();
    this.remark.textContent = "";
    this.server.textContent = this.wall.textContent = "–";
    this.showCanvas([]);
    this.showAlternatives(null);
  }

  async copy() {
    const done = await copyText(this.text);
    this.copyButton.textContent = t(done ? "copied" : "copyFailed");
    byId("live").textContent = this.copyButton.textContent;
    setTimeout(() => { this.copyButton.textContent = t("copy"); }, 1500);
  }
}

/** Only models with blanks repeat a word in several slots for one word of the text. */
const collapses = (slots) => slots.some((slot) => slot.text.trim() === "·");

function canvasLine(step, sentences, delay) {
  const item = element("li");
  item.style.animationDelay = `${delay}ms`;
  const line = element("span", "line");
  const heard = [];
  sentences.forEach((slots, i) => {
    if (i) line.append("\n");
    const joined = collapses(slots);
    slots.forEach((slot, place) => {
      const repeats = joined && slot.text.trim() === slots[place - 1]?.text.trim();
      const { node, spoken } = slotNode(slot, repeats);
      line.append(...(slot.text.startsWith(" ") && place ? [" "] : []), node);
      heard.push(spoken);
    });
  });
  const number = element("span", "step", step + 1);
  number.ariaHidden = line.ariaHidden = "true";
  item.append(element("span", "hidden", `${t("step", { step: step + 1 })} ${heard.join("")}`), number, line);
  return item;
}

/** A slot of a canvas, with a text for screen readers. */
function slotNode({ text, probability, changed }, repeats) {
  const symbol = text.trim();
  if (symbol === "_") return { node: element("span", "mask"), spoken: ` ${t("open")}` };
  if (symbol === "·") return { node: element("span", "blank", symbol), spoken: "" };
  const node = element("span", repeats ? "repeat" : changed ? "new" : "", symbol);
  node.dataset.percent = percent(probability);
  return { node, spoken: repeats ? "" : text };
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS there is no clipboard API.
    const area = element("textarea", "hidden");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/* Translating while the user types */

let results = [];
let timer = 0;
let announcing = 0;
let running = new AbortController();

const active = () => (choices.compare ? results : results.slice(0, 1));

function soon(delay = DEBOUNCE_MS) {
  clearTimeout(timer);
  timer = setTimeout(translate, delay);
}

function glossary() {
  const terms = {};
  let wrong = 0;
  byId("glossary").value.split("\n").forEach((line, i) => {
    const [term, translation] = line.split(/=(.*)/s).map((side) => side.trim());
    if (term && translation) terms[term] = translation;
    else if (line.trim() && !wrong) wrong = i + 1;
  });
  byId("glossary-error").textContent = wrong ? t("glossaryWrong", { line: wrong }) : "";
  return Object.keys(terms).length ? { glossary: terms } : {};
}

async function translate() {
  clearTimeout(timer);
  clearTimeout(announcing);
  // An outdated request is cancelled; the server then cancels its work.
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const text = byId("text").value;
  showCount(text);
  if (!text.trim()) {
    results.forEach((result) => result.clear());
    showMessage("");
    byId("detected").textContent = "";
    return;
  }
  const body = { q: text, source: byId("source").value, target: byId("target").value, format: "text", ...glossary() };
  try {
    // One after the other: at the same time, they would share a batch, and their times could not be compared.
    for (const result of active()) showDetected(await result.translate(body, signal));
    showMessage("");
    markDifferences();
    announcing = setTimeout(() => { byId("live").textContent = active().map((result) => result.text).join("\n"); }, ANNOUNCE_MS);
    for (const result of active()) {
      if (!choices.alternatives) result.showAlternatives(null);
      else {
        const { answer } = await request("translate", { ...body, steps: result.steps, alternatives: ALTERNATIVES }, signal);
        result.showAlternatives(answer.alternatives ?? []);
      }
    }
  } catch (error) {
    if (!signal.aborted) explain(error);
  }
}

function markDifferences() {
  const [first, second] = results;
  const both = choices.compare && first.answer && second.answer;
  const partsOf = (result) => (both ? result.words.map(({ part }) => part) : []);
  if (first.answer) first.showWords(partsOf(second));
  if (both) second.showWords(partsOf(first));
}

function explain(error) {
  results.forEach((result) => result.busy(false));
  if (!(error instanceof Refused)) {
    showMessage(t("offline"));
  } else if (error.status === 429 || error.status === 503) {
    const seconds = Math.min(Math.max(error.retryAfter || 1, 1), 30);
    showMessage(t(error.status === 429 ? "busy" : "wait", { seconds }));
    soon(seconds * 1000);
  } else {
    byId("key-form").hidden &&= !(error.status === 401 || error.status === 403);
    showMessage(t("refused", { reason: error.message }));
  }
}

function showMessage(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function showCount(text) {
  const number = new Intl.NumberFormat(choices.ui);
  const count = [...text].length;
  const values = { count: number.format(count), limit: number.format(limits.characters) };
  byId("count").textContent = text && limits.characters ? t("count", values) : "";
  byId("count").classList.toggle("wrong", limits.characters > 0 && count > limits.characters);
}

function showDetected(answer) {
  const found = byId("source").value === DETECT ? answer.detectedLanguage : null;
  byId("detected").textContent = found
    ? t("detected", { language: languageName(found.language), percent: percent(found.confidence / 100) })
    : "";
}

/* Languages */

function fill(select, codes, chosen) {
  const name = (code) => (code === DETECT ? t("detect") : languageName(code));
  select.replaceChildren(...codes.map((code) => new Option(name(code), code, false, code === chosen)));
}

function showLanguages(source, target) {
  const sources = languages.filter((language) => language.targets.length).map((language) => language.code);
  fill(byId("source"), detects ? [DETECT, ...sources] : sources, source);
  const from = byId("source").value;
  const reachable = from === DETECT ? languages : languages.filter((language) => language.code === from);
  fill(byId("target"), [...new Set(reachable.flatMap((language) => language.targets))], target);
  const back = languages.find((language) => language.code === byId("target").value);
  byId("swap").hidden = from === DETECT || !back?.targets.includes(from);
  showModel();
}

function swap() {
  const [source, target] = [byId("source").value, byId("target").value];
  if (results[0].text) byId("text").value = results[0].text;
  showLanguages(target, source);
  soon(0);
}

/* Controls and settings */

function showStrings() {
  document.documentElement.lang = choices.ui;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.ariaLabel = t(node.dataset.tLabel);
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  const other = choices.ui === "en" ? "de" : "en";
  byId("ui-language").textContent = other === "de" ? "Deutsch" : "English";
  byId("ui-language").lang = other;
  results.forEach((result) => result.label());
  showLanguages(byId("source").value, byId("target").value);
  showOptions();
}

let info = null;
function showModel() {
  const [source, target] = ["source", "target"].map((id) => byId(id).value);
  const models = info?.models ?? [];
  const chosen = (each) => each.target === target && [each.source, DETECT].includes(source);
  const model = models.find(chosen) ?? models[0];
  if (model) byId("model").textContent = t("model", { ...model, version: info.version });
}

function showOptions() {
  for (const key of ["compare", "confidence", "canvas", "alternatives"]) byId(key).checked = choices[key];
  byId("panes").classList.toggle("two", choices.compare);
  results[1].pane.hidden = !choices.compare;
  byId("theme").textContent = t(isDark() ? "light" : "dark");
}

function listen() {
  byId("text").addEventListener("input", () => soon());
  byId("glossary").addEventListener("input", () => soon());
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) translate();
  });
  byId("source").addEventListener("change", () => {
    showLanguages(byId("source").value, byId("target").value);
    soon(0);
  });
  byId("target").addEventListener("change", () => {
    showLanguages(byId("source").value, byId("target").value);
    soon(0);
  });
  byId("swap").addEventListener("click", swap);
  byId("clear").addEventListener("click", () => {
    byId("text").value = "";
    byId("text").focus();
    translate();
  });
  for (const key of ["compare", "confidence", "canvas", "alternatives"]) {
    byId(key).addEventListener("change", (event) => {
      choices[key] = event.target.checked;
      keepChoices();
      showOptions();
      soon(0);
    });
  }
  byId("theme").addEventListener("click", () => {
    choices.theme = isDark() ? "light" : "dark";
    keepChoices();
    showTheme();
    showOptions();
  });
  byId("ui-language").addEventListener("click", () => {
    choices.ui = choices.ui === "en" ? "de" : "en";
    keepChoices();
    showStrings();
    soon(0);
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apiKey = byId("key").value.trim();
    learn().then(translate, explain);
  });
}

/** Reads languages and limits from the server, and whether it detects languages. */
async function learn() {
  [languages, info] = await Promise.all([request("languages"), request("info")].map((asked) => asked.then(({ answer }) => answer)));
  limits.characters = info.limits?.max_text_chars ?? 0;
  limits.steps = Math.min(10, info.models?.[0]?.max_steps ?? 10);
  const usual = info.models?.[0]?.default_steps ?? 1;
  const steps = choices.steps ?? [usual, usual > 1 ? 1 : 4];
  results.forEach((result, i) => result.setSteps(steps[i]));
  detects = await request("detect", { q: "Where is the train station?" }).then(() => true, () => false);
  showStrings();
}

function start() {
  results = [new Result(1), new Result(4)];
  showStrings();
  listen();
  learn().then(() => soon(0), explain);
}

document.addEventListener("DOMContentLoaded", start);
