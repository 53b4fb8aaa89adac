//! Fragments of HTML in the shapes that pages, posts, mails and editors have: tags come back as they were,
//! text is translated.

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::json;

use crate::support::{Server, Setup, en_de};

/// Each has a word outside of what is kept.
const FRAGMENTS: [&str; 60] = [
    "<p>Hello world.</p>",
    "<p>Read <a href=\"/a?b=1&amp;c=2#d\" target=\"_blank\" rel=\"noopener\">the guide</a> first.</p>",
    "<p>Some <b>bold</b>, <i>italic</i>, <b><i>both</i></b> and <u>underlined</u> words.</p>",
    "<p><strong>Note:</strong> unplug the <em>device</em> before cleaning it.</p>",
    "<h1 id=\"top\">A heading</h1>\n<h2>Another <small>small</small> one</h2>",
    "<ul>\n  <li>Milk</li>\n  <li>Two eggs</li>\n  <li>Some <b>flour</b></li>\n</ul>",
    "<ol start=\"3\"><li>First<ol><li>Nested</li></ol></li><li>Second</li></ol>",
    "<dl><dt>Term</dt><dd>Its meaning</dd></dl>",
    "<table><thead><tr><th>Name</th><th scope=\"col\">Price</th></tr></thead><tbody><tr><td>Kettle</td><td>12.50</td></tr></tbody></table>",
    "<table><tr><td>no end tags<td>here<tr><td>either</table>",
    "<p>Line one<br>Line two<br/>Line three<br />Line four</p>",
    "<p>Fish &amp; chips &lt;fresh&gt; &copy; 2027 &mdash; &quot;good&quot;&nbsp;food</p>",
    "<p>Numeric &#39;entities&#39; &#x2014; and &#8364;5</p>",
    "<p>An entity without its semicolon: &copy 2027 &amp more</p>",
    "<p>A < b and c > d in words</p>",
    "<img src=\"cat.png\" alt=\"A sleeping cat\"> on the sofa",
    "<img src=cat.png alt='The cat&apos;s chair' title=\"A &quot;quoted&quot; title\">",
    "<input type=\"text\" placeholder=\"Your name\" value=\"kept\"> <button type=\"submit\">Send</button>",
    "<label for=x>Your mail</label><input id=x><select><option value=1 selected>One thing<option value=2>Another thing</select>",
    "<textarea placeholder=\"Say something\">kept text</textarea> after",
    "<p>Run <code>tutti check</code> first, then restart.</p>",
    "<pre>\n  kept   as it\n  is\n</pre><p>but not this</p>",
    "<p>Press <kbd>Ctrl</kbd>+<kbd>C</kbd> to stop.</p>",
    "<p>The brand <span translate=\"no\">Hello World</span> stays.</p>",
    "<p class=\"notranslate\">Kept</p><p>Not this</p>",
    "<div translate=\"no\"><p>Kept <b>all</b></p></div><div>Not this</div>",
    "<script>var a = \"<p>kept</p>\"; if (a < 3) { alert('kept'); }</script><p>words</p>",
    "<style>p > a { content: \"kept\"; }</style><p>words</p>",
    "<!-- kept <b>comment</b> --><p>words</p><!--> odd -->",
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>The title</title><meta charset=\"utf-8\"></head>\n<body>\n<p>The body</p>\n</body>\n</html>",
    "<p>Unclosed <b>bold <i>and italic</p><p>next</p>",
    "<b>Wrongly <i>nested</b> tags</i> here",
    "</p>An end tag without a start</div>",
    "<p>An attribute without quotes <a href=https://tutti.example/a/b>link</a></p>",
    "<p title='it is \"quoted\"'>Single quotes</p>",
    "<P CLASS=\"Big\">Capital <B>letters</B></P>",
    "<p\n   class=\"x\"\n   data-y='z'\n>White space in tags</p\n>",
    "<p data-json='{\"a\": \"<b>kept</b>\"}'>Markup in attributes</p>",
    "<svg viewBox=\"0 0 1 1\"><title>kept</title><path d=\"M0 0h1\"/></svg> a picture",
    "<math><mi>x</mi><mo>=</mo><mn>1</mn></math> is a formula",
    "<details open><summary>More</summary>Hidden words</details>",
    "<figure><img src=a.jpg alt=\"A bridge\"><figcaption>The old bridge</figcaption></figure>",
    "<blockquote cite=\"https://tutti.example\"><p>We can't, he said.</p></blockquote>",
    "<p><span class=\"h-card\"><a href=\"https://social.example/@maria\" class=\"u-url mention\">@<span>maria</span></a></span> good morning!</p>",
    "<p>Tagged <a href=\"https://social.example/tags/rain\" class=\"mention hashtag\" rel=\"tag\">#<span>rain</span></a></p>",
    "<p><a href=\"https://tutti.example/a/very/long/path\"><span class=\"invisible\">https://</span><span class=\"ellipsis\">tutti.example/a/very</span></a> look at this</p>",
    "<aside class=\"quote\" data-post=\"1\"><div class=\"title\">maria:</div><blockquote><p>A quoted post</p></blockquote></aside><p>The answer</p>",
    "<font color=\"#ffff00\">- Where are you?</font><br />- Over here.",
    "<i>I was going to<br />the shop.</i>",
    "{\\an8}<i>Above the picture</i>",
    "<center><font size=2>Old pages</font></center><hr><marquee>still exist</marquee>",
    "<table border=0 cellpadding=0><tbody><tr><td style=\"font:14px Arial,'Segoe UI'\">Dear team,<br><br>the office is closed.</td></tr></tbody></table>",
    "<!--[if mso]><table><tr><td>kept</td></tr></table><![endif]--><p>Mail</p>",
    "<p>&nbsp;</p><p>Words &nbsp; between</p><p></p>",
    "<p>Emoji 🎉 and <b>👩‍🚀</b> stay</p>",
    "<p>Grüße aus <i>München</i>, naïve café</p>",
    "<a href=\"#\"><img src=\"x\" alt=\"\"></a><a href=\"#\">Only a link</a>",
    "<p>Empty <b></b> elements <i> </i> too</p>",
    "<custom-element some-attr>Words in <x-y>custom</x-y> elements</custom-element>",
    "plain text without any tag, and an unfinished <b",
];

/// Every tag with its attributes (their values where nobody reads them), comment and doctype, in order: where they are equal,
/// so is the multiset, and what was well-formed still is.
fn tags(html: &str) -> Vec<String> {
    let mut emitter = DefaultEmitter::<()>::new_with_span();
    emitter.naively_switch_states(true);
    Tokenizer::new_with_emitter(html, emitter)
        .filter_map(|token| match token.unwrap() {
            Token::StartTag(tag) => {
                let read = |name: &[u8]| matches!(name, b"title" | b"alt" | b"placeholder");
                let attributes: Vec<String> = tag
                    .attributes
                    .iter()
                    .map(|(name, value)| match read(name) {
                        true => format!("{name:?}"),
                        false => format!("{name:?}={:?}", value.value),
                    })
                    .collect();
                Some(format!("<{:?} {attributes:?} {}>", tag.name, tag.self_closing))
            }
            Token::EndTag(tag) => Some(format!("</{:?}>", tag.name)),
            Token::Comment(comment) => Some(format!("<!{:?}>", comment.value)),
            Token::Doctype(doctype) => Some(format!("<!doctype {:?}>", doctype.name)),
            Token::String(_) | Token::Error(_) => None,
        })
        .collect()
}

#[tokio::test]
async fn tags_come_back_as_they_were_and_text_is_translated() {
    let server = Server::start(Setup::default()).await;
    let mut body = en_de(json!(FRAGMENTS.as_slice()));
    body["format"] = json!("html");
    body["alternatives"] = json!(2);
    let answer = server.translate("/translate?steps=1", body).await;
    let translations = answer["translatedText"].as_array().unwrap();
    let alternatives = answer["alternatives"].as_array().unwrap();
    for ((fragment, translation), others) in FRAGMENTS.iter().zip(translations).zip(alternatives) {
        assert!(!others.as_array().unwrap().is_empty(), "{fragment}");
        for translation in [translation].into_iter().chain(others.as_array().unwrap()) {
            let translation = translation.as_str().unwrap();
            assert_eq!(tags(translation), tags(fragment), "{fragment}\n{translation}");
            assert_ne!(translation, *fragment);
            assert_eq!(
                translation.matches("kept").count(),
                fragment.matches("kept").count(),
                "{translation}"
            );
        }
    }
}
