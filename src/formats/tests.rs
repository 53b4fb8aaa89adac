use proptest::prelude::*;

use super::*;

#[test]
fn every_name_is_a_different_format() {
    let formats: Vec<Format> = Format::NAMES.iter().map(|name| name.parse().unwrap()).collect();
    for (index, format) in formats.iter().enumerate() {
        assert!(!formats[..index].contains(format), "{}", Format::NAMES[index]);
    }
    assert!("docx".parse::<Format>().is_err());
}

/// Translates each text to upper case.
fn upper_case(format: &Format, source: &str) -> String {
    let document = format.read(source).unwrap();
    let translations: Vec<String> = document.texts().iter().map(|text| text.text.to_uppercase()).collect();
    document.rebuild(&translations)
}

fn html(source: &str) -> String {
    upper_case(&Format::Markup(Markup::html()), source)
}

#[test]
fn html_is_translated_between_tags_and_in_visible_attributes() {
    for (source, expected) in [
        ("plain", "PLAIN"),
        ("<p>one <b>two</b> three</p>", "<p>ONE <b>TWO</b> THREE</p>"),
        ("<p\nclass='x'  id=y>one\n   two</p>", "<p\nclass='x'  id=y>ONE TWO</p>"),
        ("a &amp; b &lt;c&gt; &copy; 2027&nbsp;d", "A &amp; B &lt;C&gt; © 2027&#160;D"),
        (
            "<img src=a.png alt='a &quot;cat&quot;' title=word>",
            "<img src=a.png alt=\"A &quot;CAT&quot;\" title=\"WORD\">",
        ),
        (
            "<input placeholder = \"say it\" value=\"kept\"/>",
            "<input placeholder = \"SAY IT\" value=\"kept\"/>",
        ),
        ("<code>x = y</code> is <pre>a\n b</pre> good", "<code>x = y</code> IS <pre>a\n b</pre> GOOD"),
        (
            "<script>if (a < b) say('no');</script><style>p { color: red }</style>yes",
            "<script>if (a < b) say('no');</script><style>p { color: red }</style>YES",
        ),
        ("<!-- a comment --><!doctype html>text", "<!-- a comment --><!doctype html>TEXT"),
        ("<p translate=no>kept <i>kept</i></p>gone", "<p translate=no>kept <i>kept</i></p>GONE"),
        (
            "<span class=\"a notranslate\" title=kept>kept</span> gone",
            "<span class=\"a notranslate\" title=kept>kept</span> GONE",
        ),
        (
            "<ul><li translate=\"no\">kept<li>kept too</ul>gone",
            "<ul><li translate=\"no\">kept<li>kept too</ul>GONE",
        ),
        ("12 &gt; 3 <b>…</b>", "12 &gt; 3 <b>…</b>"),
        ("one<br />two<br>three", "ONE<br />TWO<br>THREE"),
        ("<p>never closed <b>nor this", "<p>NEVER CLOSED <b>NOR THIS"),
        ("wrong </i> order </p", "WRONG </i> ORDER </p"),
        ("", ""),
    ] {
        assert_eq!(html(source), expected, "{source}");
    }
}

#[test]
fn a_block_is_one_text_with_a_character_for_each_tag() {
    let source = "<p>  <i>Go</i>\n <a href=x title='A link'>home</a><!-- c --> <code>x</code>! </p><p>Two<br>lines</p>";
    let document = Format::Markup(Markup::html()).read(source).unwrap();
    let texts: Vec<&str> = document.texts().iter().map(|text| text.text.as_str()).collect();
    let first = "Go\u{e000} \u{e001}home\u{e002}\u{e003} \u{e004}!";
    assert_eq!(texts, ["A link", first, "Two\u{e000}lines"]);
    let tags: Vec<&str> = document.texts()[1].tags.iter().map(|tag| &first[tag.clone()]).collect();
    assert_eq!(tags, ["\u{e000}", "\u{e001}", "\u{e002}", "\u{e003}", "\u{e004}"]);
    let moved = [
        "B".to_owned(),
        "\u{e001}zu \u{e000}Haus\u{e002}\u{e003}, \u{e004}!".to_owned(),
        "2\u{e000}".to_owned(),
    ];
    let expected =
        "<p>  <i><a href=x title=\"B\">zu </i>Haus</a><!-- c -->, <code>x</code>! </p><p>2<br></p>";
    assert_eq!(document.rebuild(&moved), expected);
}

#[test]
fn private_use_characters_in_a_text_are_not_tags() {
    assert_eq!(html("<b>a \u{e000} b</b> <i>c</i>"), "<b>A \u{e000} B</b> <i>C</i>");
}

#[test]
fn xml_keeps_attributes_and_ignored_elements() {
    let markup = Markup::xml().ignoring(["Keep".to_owned()]);
    let source =
        "<?xml version=\"1.0\"?><a title=\"kept\">go <Keep>kept <x/> kept</Keep> <script>go</script></a>";
    let expected =
        "<?xml version=\"1.0\"?><a title=\"kept\">GO <Keep>kept <x/> kept</Keep> <script>GO</script></a>";
    assert_eq!(upper_case(&Format::Markup(markup), source), expected);
}

#[test]
fn markdown_keeps_its_markup_and_code() {
    let source = "---\ntitle: kept\n---\n# Head *line*\n\n> quoted\n> twice\n\n- item `kept?`\n\n```sh\nkept\n```\n\n| a | b |\n|---|---|\n| c | 1 |\n\n<div>kept</div>\n";
    let expected = "---\ntitle: kept\n---\n# HEAD *LINE*\n\n> QUOTED\n> TWICE\n\n- ITEM `KEPT?`\n\n```sh\nkept\n```\n\n| A | B |\n|---|---|\n| C | 1 |\n\n<div>kept</div>\n";
    assert_eq!(upper_case(&Format::Markdown, source), expected);
}

#[test]
fn subtitles_keep_numbers_and_times() {
    let source = "1\r\n00:00:01,000 --> 00:00:02,000\r\n- Hello.\r\n- Goodbye.\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\n1984\r\n\r\nnot a cue\r\n";
    let expected = "1\r\n00:00:01,000 --> 00:00:02,000\r\n- HELLO.\n- GOODBYE.\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\n1984\r\n\r\nnot a cue\r\n";
    assert_eq!(upper_case(&Format::Srt, source), expected);
}

#[test]
fn json_changes_values_only() {
    let source =
        "\u{feff}{\"z\": \"say \\\"hi\\\"\",  \"a\" : [\"two\", 3, null, {\"k\": \"four\"}], \"n\": \"5\"}\n";
    let expected =
        "\u{feff}{\"z\": \"SAY \\\"HI\\\"\",  \"a\" : [\"TWO\", 3, null, {\"k\": \"FOUR\"}], \"n\": \"5\"}\n";
    assert_eq!(upper_case(&Format::Json, source), expected);
    assert!(Format::Json.read("{").is_err());
}

#[test]
fn po_fills_empty_translations_and_keeps_the_others() {
    let source = "# by nobody\nmsgid \"\"\nmsgstr \"Language: de\\n\"\n\n#: a.c:1\nmsgctxt \"menu\"\nmsgid \"say \\\"hi\\\"\\n\"\nmsgstr \"\"\n\nmsgid \"done\"\nmsgstr \"fertig\"\n\nmsgid \"\"\n\"a long \"\n\"line\"\nmsgstr \"\"\n\"\"\n\nmsgid \"one file\"\nmsgid_plural \"%d files\"\nmsgstr[0] \"\"\nmsgstr[1] \"\"\n\n#~ msgid \"old\"\n#~ msgstr \"alt\"\n";
    let expected = "# by nobody\nmsgid \"\"\nmsgstr \"Language: de\\n\"\n\n#: a.c:1\nmsgctxt \"menu\"\nmsgid \"say \\\"hi\\\"\\n\"\nmsgstr \"SAY \\\"HI\\\"\\n\"\n\nmsgid \"done\"\nmsgstr \"fertig\"\n\nmsgid \"\"\n\"a long \"\n\"line\"\nmsgstr \"A LONG LINE\"\n\nmsgid \"one file\"\nmsgid_plural \"%d files\"\nmsgstr[0] \"ONE FILE\"\nmsgstr[1] \"%D FILES\"\n\n#~ msgid \"old\"\n#~ msgstr \"alt\"\n";
    assert_eq!(upper_case(&Format::Po, source), expected);
    for bad in ["\"lost\"", "msgid \"", "msgid é\"", "hello", "msgid \"a\\\""] {
        assert!(Format::Po.read(bad).is_err(), "{bad}");
    }
}

#[test]
fn xliff_gets_missing_targets() {
    let source = "<xliff version=\"1.2\"><file><body><trans-unit id=\"1\"><source>a &amp; <g id=\"1\">b</g></source></trans-unit><trans-unit id=\"2\"><source>done</source><target>fertig</target></trans-unit><trans-unit id=\"3\"><source>empty</source><target/></trans-unit></body></file></xliff>";
    let expected = "<xliff version=\"1.2\"><file><body><trans-unit id=\"1\"><source>a &amp; <g id=\"1\">b</g></source><target>A &amp; <g id=\"1\">B</g></target></trans-unit><trans-unit id=\"2\"><source>done</source><target>fertig</target></trans-unit><trans-unit id=\"3\"><source>empty</source><target>EMPTY</target></trans-unit></body></file></xliff>";
    assert_eq!(upper_case(&Format::Xliff, source), expected);
    for bad in ["", "<a></b>", "<html></html>", "<xliff><source>&nope;</source></xliff>"] {
        assert!(Format::Xliff.read(bad).is_err(), "{bad}");
    }
}

/// XLIFF 1.2 and 2 with this source, and this target after it.
fn xliff_files(source: &str, target: &str) -> [String; 2] {
    ["trans-unit", "segment"].map(|unit| {
        format!("<xliff><file><{unit}>\n <source>{source}</source>{target}\n</{unit}></file></xliff>")
    })
}

#[test]
fn xliff_keeps_inline_elements_in_their_places() {
    for (source, target) in [
        ("press <x id=\"1\"/> &lt;now&gt;", "PRESS <x id=\"1\"/> &lt;NOW&gt;"),
        ("<x id=\"1\"/> go <x id=\"2\"></x>", "<x id=\"1\"/> GO <x id=\"2\"></x>"),
        (
            "one <g id=\"1\">two <g id=\"2\">three</g></g> four",
            "ONE <g id=\"1\">TWO <g id=\"2\">THREE</g></g> FOUR",
        ),
        (
            "say<ph id=\"1\">&lt;br title=\"<sub>kept</sub>\"/&gt;</ph>so",
            "SAY<ph id=\"1\">&lt;br title=\"<sub>kept</sub>\"/&gt;</ph>SO",
        ),
        (
            "a <bpt id=\"1\">&lt;b></bpt>bold<ept id=\"1\">&lt;/b></ept> word",
            "A <bpt id=\"1\">&lt;b></bpt>BOLD<ept id=\"1\">&lt;/b></ept> WORD",
        ),
        ("<pc id=\"1\">go <ph id=\"2\"/>home</pc>.", "<pc id=\"1\">GO <ph id=\"2\"/>HOME</pc>."),
        (
            "the <mrk id=\"1\" translate=\"no\">kept</mrk> <mrk id=\"2\">word</mrk>",
            "THE <mrk id=\"1\" translate=\"no\">kept</mrk> <mrk id=\"2\">WORD</mrk>",
        ),
        ("an icon \u{e000}, <x id=\"1\"/>a tag", "AN ICON \u{e000}, <x id=\"1\"/>A TAG"),
    ] {
        let expected = xliff_files(source, &format!("<target>{target}</target>"));
        for (file, expected) in xliff_files(source, "").into_iter().zip(expected) {
            assert_eq!(upper_case(&Format::Xliff, &file), expected);
            let marked = upper_case(&Format::Xliff, &format!("\u{feff}{file}"));
            assert_eq!(marked, format!("\u{feff}{expected}"));
        }
    }
    for file in xliff_files("<x id=\"1\"/> 12 <ph id=\"2\">kept</ph>", "") {
        assert_eq!(upper_case(&Format::Xliff, &file), file);
    }
}

#[test]
fn inline_elements_of_xliff_are_characters_of_the_text() {
    let source = "<x id=\"0\"/>one <g id=\"1\">two <ph id=\"2\">kept</ph>three</g> four";
    for file in xliff_files(source, "<target/>") {
        let document = Format::Xliff.read(&file).unwrap();
        let [text] = document.texts() else { panic!("{document:?}") };
        assert_eq!(text.text, "one \u{e000}two \u{e001}three\u{e002} four");
        let tags: Vec<&str> = text.tags.iter().map(|tag| &text.text[tag.clone()]).collect();
        assert_eq!(tags, ["\u{e000}", "\u{e001}", "\u{e002}"]);
        let translated = document.rebuild(&["\u{e000}zwei \u{e001}drei\u{e002} & vier eins".to_owned()]);
        let target =
            "<target><x id=\"0\"/><g id=\"1\">zwei <ph id=\"2\">kept</ph>drei</g> &amp; vier eins</target>";
        assert!(translated.contains(&format!("</source>{target}\n")), "{translated}");
    }
}

#[test]
fn xliff_marked_as_not_to_be_translated_stays_as_it_is() {
    let unit = "<trans-unit id=\"1\"><source>a</source></trans-unit>";
    let unit_2 = "<unit id=\"1\"><segment><source>a</source></segment></unit>";
    let translated = |file: &str| file.replace("</source>", "</source><target>A</target>");
    for unit in [unit, unit_2] {
        let marked = |value: &str| unit.replace(" id=", &format!(" translate=\"{value}\" id="));
        for kept in [
            format!("<file>{}</file>", marked("no")),
            format!("<file><group translate=\"no\"><group>{unit}</group></group></file>"),
            format!("<file translate=\"no\"><group>{unit}</group></file>"),
        ] {
            let other = format!("<file><group>{unit}</group>{}</file>", marked("yes"));
            let file = format!("<xliff>{kept}{other}</xliff>");
            let expected = format!("<xliff>{kept}{}</xliff>", translated(&other));
            assert_eq!(upper_case(&Format::Xliff, &file), expected);
        }
        let file = format!("<xliff><file translate=\"no\">{}</file></xliff>", marked("yes"));
        assert_eq!(upper_case(&Format::Xliff, &file), translated(&file));
    }
}

#[test]
fn texts_without_a_translation_stay_as_they_are() {
    let markup = Format::Markup(Markup::html());
    for (format, source, kept, expected) in [
        (&Format::Text, "one", [0].as_slice(), "one"),
        (
            &markup,
            "<p>one &mdash;\n<b title='x &amp; y'>two</b>&nbsp;</p><p>three</p>",
            &[1],
            "<p>one &mdash;\n<b title=\"X &amp; Y\">two</b>&nbsp;</p><p>THREE</p>",
        ),
        (
            &markup,
            "<img alt=a title='b'><p>one &mdash;</p>",
            &[0, 2],
            "<img alt=a title=\"B\"><p>one &mdash;</p>",
        ),
        (&Format::Json, "[\"\\u0061\", \"b\"]", &[0], "[\"\\u0061\", \"B\"]"),
        (
            &Format::Po,
            "msgid \"a\"\nmsgstr \"\"\n\"\"\n\nmsgid \"b\"\nmsgstr \"\"\n",
            &[0],
            "msgid \"a\"\nmsgstr \"\"\n\"\"\n\nmsgid \"b\"\nmsgstr \"B\"\n",
        ),
    ] {
        let document = format.read(source).unwrap();
        let texts = document.texts().iter().enumerate();
        let translations: Vec<Option<String>> =
            texts.map(|(index, text)| (!kept.contains(&index)).then(|| text.text.to_uppercase())).collect();
        assert_eq!(document.rebuild_partly(&translations), expected);
    }
}

/// Start and end tags with their attributes' names, sorted.
fn tags(source: &str) -> Vec<String> {
    let mut emitter = html5gum::DefaultEmitter::<()>::new_with_span();
    emitter.naively_switch_states(true);
    let mut tags: Vec<String> = html5gum::Tokenizer::new_with_emitter(source, emitter)
        .filter_map(|token| match token.unwrap() {
            html5gum::Token::StartTag(tag) => Some(format!("<{:?} {:?}", tag.name, tag.attributes.keys())),
            html5gum::Token::EndTag(tag) => Some(format!("</{:?}", tag.name)),
            html5gum::Token::Comment(comment) => Some(format!("{:?}", comment.value)),
            _ => None,
        })
        .collect();
    tags.sort_unstable();
    tags
}

fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zé &<>\"'=/\n]{0,12}",
        Just("<p translate=no>".to_owned()),
        Just("<b title=\"a b\">".to_owned()),
        Just("<img alt=x title='y'/>".to_owned()),
        Just("</p></b>".to_owned()),
        Just("<script>a<b</script>".to_owned()),
        Just("<!-- c -->".to_owned()),
        Just("&amp;&nbsp;&copy".to_owned()),
        Just("<textarea>".to_owned()),
        Just("<![CDATA[ x ]]>".to_owned()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn xliff_pieces() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a b",
        " ",
        "7",
        "&amp;",
        "é\u{e001}",
        "<x/>",
        "<g>c</g>",
        "<g> <g/><x/></g>",
        "<ph>k</ph>",
        "<!-- x -->",
        "<![CDATA[ <d ]]>",
    ])
}

proptest! {
    #[test]
    fn any_markup_keeps_its_tags(source in fragments()) {
        for markup in [Markup::html(), Markup::xml()] {
            let document = Format::Markup(markup.clone()).read(&source).unwrap();
            let none = vec![None; document.texts().len()];
            prop_assert_eq!(&document.rebuild_partly(&none), &source);
            let translations: Vec<String> = document.texts().iter().map(|text| format!("x<{}&", text.text)).collect();
            if !markup.is_xml() {
                prop_assert_eq!(tags(&document.rebuild(&translations)), tags(&source));
            }
        }
    }

    #[test]
    fn any_xliff_keeps_its_inline_elements(pieces in proptest::collection::vec(xliff_pieces(), 0..8)) {
        for file in xliff_files(&pieces.concat(), "") {
            let translated = upper_case(&Format::Xliff, &file);
            prop_assert!(Format::Xliff.read(&translated).is_ok(), "{}", translated);
            let times = if translated.contains("<target>") { 2 } else { 1 };
            for tag in ["<x/>", "<g>", "</g>", "<ph>k</ph>"] {
                prop_assert_eq!(translated.matches(tag).count(), times * file.matches(tag).count());
            }
        }
    }

    #[test]
    fn no_file_causes_a_panic(source in "[a-zé \"\\\\<>&;/#:,0-9\n>-]{0,60}") {
        for format in [Format::Markdown, Format::Po, Format::Srt, Format::Json, Format::Xliff] {
            if let Ok(document) = format.read(&source) {
                let same: Vec<String> = document.texts().iter().map(|text| text.text.clone()).collect();
                document.rebuild(&same);
                let none = vec![None; same.len()];
                prop_assert_eq!(&document.rebuild_partly(&none), &source);
            }
        }
    }
}
