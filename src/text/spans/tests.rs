use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Vec<&str> {
    find(text).into_iter().map(|span| &text[span.range]).collect()
}

fn en_de() -> Languages {
    Languages::new("en", "de")
}

#[test]
fn the_table_of_patterns_compiles() {
    assert!(patterns::are_valid());
}

#[test]
fn a_text_that_is_one_span_is_found_whole() {
    for (text, kind) in [
        ("https://tutti.example/start", Kind::Address),
        ("https://example.org/a?b=c#d", Kind::Address),
        ("www.example.org", Kind::Address),
        ("help@tutti.example", Kind::Address),
        (r"C:\Temp\a.txt", Kind::Address),
        ("/usr/share/doc", Kind::Address),
        ("/etc/hosts", Kind::Address),
        ("src/text/mod.rs", Kind::Address),
        ("192.168.0.1:8080", Kind::Address),
        ("+44 20 7946 0018", Kind::Address),
        ("{0}", Kind::Placeholder),
        ("{}", Kind::Placeholder),
        ("{name}", Kind::Placeholder),
        ("{{user.city}}", Kind::Placeholder),
        ("%s", Kind::Placeholder),
        ("%1$s", Kind::Placeholder),
        ("%(count)d", Kind::Placeholder),
        ("%@", Kind::Placeholder),
        ("%.2f", Kind::Placeholder),
        ("%1", Kind::Placeholder),
        ("${total}", Kind::Placeholder),
        ("$t(key)", Kind::Placeholder),
        (":count", Kind::Placeholder),
        ("[[1]]", Kind::Placeholder),
        ("{count, plural, one {# photo} other {# photos}}", Kind::Placeholder),
        ("<0>", Kind::Markup),
        ("<b>", Kind::Markup),
        ("</a>", Kind::Markup),
        ("<br />", Kind::Markup),
        (r#"<a href="https://tutti.example">"#, Kind::Markup),
        ("&nbsp;", Kind::Markup),
        ("&#39;", Kind::Markup),
        ("`tutti check`", Kind::Markup),
        ("**", Kind::Markup),
        ("🎉", Kind::Symbol),
        ("👩‍🚀", Kind::Symbol),
        ("👍🏽", Kind::Symbol),
        ("🇩🇪", Kind::Symbol),
        ("→", Kind::Symbol),
        ("™", Kind::Symbol),
        ("(c)", Kind::Symbol),
        (":-)", Kind::Symbol),
        ("42", Kind::Number),
        ("1,299.99", Kind::Number),
        ("3.5 GB", Kind::Number),
        ("-7 °C", Kind::Number),
        ("€5", Kind::Number),
        ("$50", Kind::Number),
        ("100%", Kind::Number),
        ("15 mm", Kind::Number),
        ("2026-11-29", Kind::Time),
        ("2026-11-29T10:20:30Z", Kind::Time),
        ("7:45", Kind::Time),
        ("6:30 pm", Kind::Time),
        ("11/29/2026", Kind::Time),
        ("00:00:09,250 --> 00:00:11,000", Kind::Time),
        ("getUserName", Kind::Identifier),
        ("MAX_SIZE", Kind::Identifier),
        ("ERR_CONN_RESET", Kind::Identifier),
        ("v2.3.1", Kind::Identifier),
        ("1.20.4", Kind::Identifier),
        ("README.md", Kind::Identifier),
        ("Cargo.toml", Kind::Identifier),
        ("5f3c9a1b7d", Kind::Identifier),
        ("0xFF", Kind::Identifier),
        ("F#", Kind::Identifier),
        ("C++", Kind::Identifier),
        ("B2", Kind::Identifier),
        ("UTF-8", Kind::Identifier),
        ("3D", Kind::Identifier),
        ("Ctrl+Shift+S", Kind::Identifier),
        ("--no-lm", Kind::Identifier),
        ("DROP TABLE users;", Kind::Identifier),
        ("48 Hill Road", Kind::Identifier),
        ("Pixel 9 Pro", Kind::Identifier),
        ("#FFAA00", Kind::Handle),
        ("@maria", Kind::Handle),
        ("#rainy", Kind::Handle),
    ] {
        assert_eq!(find(text), [Span { range: 0..text.len(), kind }], "{text}");
    }
}

#[test]
fn exactly_the_spans_of_a_sentence_are_found() {
    for (text, spans) in [
        ("Hello {name}, you have %d new messages.", vec!["{name}", "%d"]),
        (
            r#"Visit <a href="https://tutti.example">our site</a> & say hi."#,
            vec![r#"<a href="https://tutti.example">"#, "</a>"],
        ),
        ("Deleted {0} of {1} files in {folder}.", vec!["{0}", "{1}", "{folder}"]),
        ("The battery lasts up to 18 hours.", vec!["18"]),
        ("It starts at 6:30 pm and costs $14.50.", vec!["6:30 pm", "$14.50"]),
        ("Run `tutti check` first, then restart.", vec!["`tutti check`"]),
        ("Great job 👏 see you at 10!", vec!["👏", "10"]),
        ("Order #48213 ships on 2027-02-03.", vec!["#48213", "2027-02-03"]),
        ("Page 3\u{a0}of\u{a0}12", vec!["3", "12"]),
        ("See [our guide](https://a.example/x) now", vec!["[", "](https://a.example/x)"]),
        ("Mail team@example.org, or call.", vec!["team@example.org"]),
        ("Open https://example.org/x.", vec!["https://example.org/x"]),
        ("100% sure, 50 % done", vec!["100%", "50 %"]),
        ("%d%% of %s", vec!["%d", "%", "%", "%s"]),
        ("%dx%d pixels, v%s", vec!["%d", "%d", "%s"]),
        ("in %TMP% or %AppData%", vec!["%TMP%", "%AppData%"]),
        ("%1$s%2$s and %1%2", vec!["%1$s", "%2$s", "%1", "%2"]),
        ("It is 5%so far", vec!["5%"]),
        ("Hello<!-- a note; to {you} -->there", vec!["<!-- a note; to {you} -->"]),
        ("Type SELECT a FROM b; twice", vec![]),
        ("Type `x`: SELECT a FROM b; twice", vec!["`x`", "SELECT a FROM b;"]),
        ("UPDATE: it has moved; see {below}", vec!["{below}"]),
        ("[our a](b)](c d) [the d](e(f g) ![the g](h)", vec!["[", "](b)", "![", "](h)"]),
        ("The 2nd of the 1990s", vec![]),
        ("He said: \"No; not today - or tomorrow.\" (Really?)", vec![]),
        ("Don't use well-known e-mail addresses, please!", vec![]),
        ("Either and/or both, terms & conditions", vec![]),
        ("Price: 3.5–4.5 GB.", vec!["3.5–4.5 GB"]),
        ("He is 1.80 m tall.", vec!["1.80 m"]),
        ("I am 30. You are 40.", vec!["30", "40"]),
    ] {
        assert_eq!(found(text), spans, "{text}");
    }
}

#[test]
fn numbers_and_times_of_day_take_the_form_of_the_target_language() {
    for (text, kind, expected) in [
        ("2.71", Kind::Number, "2,71"),
        ("12,500", Kind::Number, "12.500"),
        ("1,299.99", Kind::Number, "1.299,99"),
        ("12500", Kind::Number, "12500"),
        ("1,2", Kind::Number, "1,2"),
        ("€12.50", Kind::Number, "12,50 €"),
        ("-$5", Kind::Number, "-5 $"),
        ("3.5 GB", Kind::Number, "3,5 GB"),
        ("3.5-4.5 GB", Kind::Number, "3,5-4,5 GB"),
        ("75%", Kind::Number, "75%"),
        ("6:30 pm", Kind::Time, "18:30"),
        ("12 am", Kind::Time, "0:00"),
        ("13 pm", Kind::Time, "13 pm"),
        ("7:45", Kind::Time, "7:45"),
        ("2.71", Kind::Identifier, "2.71"),
    ] {
        assert_eq!(localise(text, kind, &en_de()), expected, "{text}");
    }
    assert_eq!(localise("1.299,99 €", Kind::Number, &Languages::new("de", "en")), "1,299.99 €");
    assert_eq!(localise("1,299.99", Kind::Number, &Languages::new("en", "en")), "1,299.99");
}

#[test]
fn a_span_on_both_sides_of_a_pair_is_shared_once() {
    let (source, target) = ("{a} costs $1.50, {a} and 3", "3 und {a}: 1,50\u{a0}$, {b}");
    let texts: Vec<_> = shared(source, target, &en_de())
        .into_iter()
        .map(|(s, t)| (&source[s.range], &target[t.range]))
        .collect();
    assert_eq!(texts, [("{a}", "{a}"), ("$1.50", "1,50\u{a0}$"), ("3", "3")]);
}

fn texts() -> impl Strategy<Value = String> {
    let parts = "(\\{name\\}|%s|<b>|</b>|https://a\\.b/c|a@b\\.de|\\*\\*|👩\u{200d}🚀|🇩🇪|é|3,5|\\$|1\\.5|GB| |#|`|\\[|\\]\\(|\\)|_|:|aB|\\{|\\}|, plural,|\u{301}|日本|\n){0,20}";
    prop_oneof![any::<String>(), parts, "[ -~]{0,40}"]
}

/// The slowest known texts for each kind of span. Each takes some tenths of a second; with quadratic work, a megabyte
/// would take minutes.
#[test]
fn a_megabyte_of_any_text_is_searched_quickly() {
    const BYTES: usize = 1 << 20;
    const BOUND: Duration = Duration::from_secs(5);
    for part in [
        // Spans that start and do not end.
        "<!--",
        "<!-- -- ",
        "SELECT ",
        "äSELECT ",
        "UPDATE a SET ",
        "](",
        "[](",
        "[a](",
        "[",
        "{a, plural,",
        "{",
        "}",
        "{{a",
        "`",
        "``",
        "```a",
        "<",
        "<a ",
        "</",
        "<!DOCTYPE ",
        "[[",
        "[[a",
        "${",
        "$t(",
        "%(a",
        "&a",
        "(",
        "\\",
        // A pattern that reads further while a shorter one matches.
        "1-1-",
        "1.1.",
        "1,1",
        "1/1",
        "a.",
        "a/",
        "a\\",
        "a-",
        "a::",
        "00:",
        "a.md.",
        "www.a.b/(",
        "a.com/((",
        "C:\\.",
        "+4 ",
        // A long match whose neighbour does not fit.
        "a_",
        "äa_",
        "a_ä",
        "äa.com/",
        "a.com/ä",
        "äC:\\ä",
        "Ctrl+",
        "Ctrl+ä",
        ")--a=",
        "äwww.a.b/",
        "ä1,",
        "ä1:",
        "äA1",
        // A short match at every position.
        ":a",
        "%:a",
        "%a",
        "@a",
        "#",
        "*",
        "|",
        "0:",
        "00:00:00,000 --> ",
        "A. ",
        "=",
        "-",
        // Addresses and emoji.
        "://",
        "a://",
        "http://",
        "http://a",
        "a@",
        "@",
        "a.b@",
        "mailto:",
        "👩‍🚀",
        "👩\u{200d}",
        "👩\u{301}",
        "🇩",
        "\u{301}",
        "字1",
    ] {
        let text = part.repeat(BYTES / part.len());
        // The end of a span is missing, or in another line.
        for text in [format!("{text}ä"), format!("{}\n;-->)`", part.repeat(BYTES / 4 / part.len()))] {
            let begun = Instant::now();
            find(&text);
            let taken = begun.elapsed();
            assert!(taken < BOUND, "{part:?}: {taken:?}");
        }
    }
}

proptest! {
    #[test]
    fn spans_are_ascending_disjoint_and_whole_characters(text in texts()) {
        let mut end = 0;
        for span in find(&text) {
            prop_assert!(span.range.start >= end && span.range.end > span.range.start);
            prop_assert!(text.get(span.range.clone()).is_some());
            localise(&text[span.range.clone()], span.kind, &en_de());
            end = span.range.end;
        }
    }

    #[test]
    fn the_quick_check_misses_no_span(text in "[a-zA-Zäß ,.!?'\"();:-]{0,30}") {
        if !may_have_spans(text.as_bytes()) {
            let mut matches = patterns::Matches::new(&text);
            prop_assert_eq!(matches.first_from(0), None);
            prop_assert!(markdown::find(&text).is_empty());
        }
    }
}
