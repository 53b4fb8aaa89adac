// What clients from npm get from a server: `node clients.mjs URL`. Prints a line for each call.

import * as deepl from 'deepl-node';
import libretranslate from 'libretranslate';
import { Translate } from 'translate';

const url = process.argv[2];
const text = 'Where is the train station?';
const body = JSON.stringify({ q: text, source: 'en', target: 'de' });
const headers = { 'Content-Type': 'application/json' };
const best = (await (await fetch(`${url}/translate`, { method: 'POST', headers, body })).json()).translatedText;

let failed = 0;
function check(client, call, got, expected) {
    const good = typeof expected === 'function' ? expected(got) : JSON.stringify(got) === JSON.stringify(expected);
    if (!good) failed += 1;
    const shown = JSON.stringify(got).slice(0, 90);
    console.log(`${good ? 'ok    ' : 'FAILED'} ${client.padEnd(20)} ${call.padEnd(32)} ${shown}`);
}

const { translate } = libretranslate;
check('libretranslate (npm)', 'translate', await translate({ query: text, source: 'en', target: 'de', apiurl: url }), best);
check('libretranslate (npm)', 'translate auto', await translate({ query: text, target: 'de', apiurl: url }), best);

const libre = Translate({ engine: 'libre', from: 'en', to: 'de', url: `${url}/translate`, key: 'key' });
check('translate (npm)', 'translate', await libre(text), best);

const client = new deepl.DeepLClient('key:fx', { serverUrl: url });
const one = await client.translateText(text, null, 'de');
check('deepl-node', 'translateText', [one.text, one.detectedSourceLang], [best, 'en']);
const many = await client.translateText([text, text], 'en', 'de', { formality: 'prefer_less', splitSentences: 'off' });
check('deepl-node', 'translateText list', many.map((result) => result.text), [best, best]);
const html = await client.translateText(`<p>${text}</p>`, 'en', 'de', { tagHandling: 'html' });
check('deepl-node', 'translateText html', html.text, `<p>${best}</p>`);
check('deepl-node', 'getSourceLanguages', (await client.getSourceLanguages()).map((one) => one.code), ['en']);
check('deepl-node', 'getTargetLanguages', (await client.getTargetLanguages()).map((one) => one.code), ['de']);
check('deepl-node', 'getUsage', (await client.getUsage()).character.count, (count) => count > 0);
const entries = new deepl.GlossaryEntries({ entries: { 'train station': 'Hbf' } });
const glossary = await client.createGlossary('rail', 'en', 'de', entries);
check('deepl-node', 'createGlossary', glossary.entryCount, 1);
check('deepl-node', 'getGlossaryEntries', (await client.getGlossaryEntries(glossary)).entries(), { 'train station': 'Hbf' });
const used = await client.translateText(text, 'en', 'de', { glossary });
check('deepl-node', 'translateText glossary', used.text, (got) => got.includes('Hbf'));
await client.deleteGlossary(glossary);
check('deepl-node', 'listGlossaries', (await client.listGlossaries()).length, 0);
let refused = '';
try {
    await client.translateText(text, null, 'zz');
} catch (error) {
    refused = String(error);
}
check('deepl-node', 'unknown language', refused, (got) => got.includes('zz is not supported'));
if (failed > 0) {
    console.error(`${failed} calls failed`);
    process.exit(1);
}
