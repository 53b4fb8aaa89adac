//! Results of sacreBLEU 2.6.0 (`corpus_bleu` and `corpus_chrf` with their defaults, and its 13a tokenizer).

pub struct Case {
    pub name: &'static str,
    /// Hypothesis, reference.
    pub pairs: &'static [(&'static str, &'static str)],
    pub bleu: f64,
    pub chrf: f64,
}

pub const CASES: &[Case] = &[
    Case {
        name: "ordinary",
        pairs: &[
            ("Wo ist der Bahnhof?", "Wo ist der Bahnhof?"),
            ("Das Wetter ist heute schön.", "Heute ist schönes Wetter."),
            ("Ich habe sie gestern im Park gesehen.", "Ich habe sie gestern in dem Park gesehen."),
            ("Er liest das Buch, das ich ihm gab.", "Er liest das Buch, welches ich ihm gegeben habe."),
        ],
        bleu: 46.99372475934905,
        chrf: 67.94881436127373,
    },
    Case {
        name: "odd punctuation, quotes, entities and numbers",
        pairs: &[
            (
                "Er sagte: &quot;Nein&quot; -- für 1.000,50 € (netto)...",
                "Er sagte: \"Nein!\" - für 1,000.50 € (netto) …",
            ),
            ("„Tom &amp; Jerry“ läuft 24/7, 10-12 Uhr.", "„Tom & Jerry“ läuft 24/7; 10–12 Uhr."),
            ("a &lt; b, c &gt; d; e-mail: x@y.de, 3.-4.5", "a < b , c > d: E-Mail: x@y.de, 3.-4.,5"),
            ("It's 50% o'clock's [sic] {x} ~/p\\q ^ `z` $5", "Its 50 % o’clock's [sic] {x} ~/p\\q^`z`$ 5"),
            ("A,B.C,,D..E 1.2.3,", "A, B. C,, D.. E 1.2.3 ,"),
        ],
        bleu: 70.7414970854166,
        chrf: 67.24630905695544,
    },
    Case {
        name: "an empty hypothesis and an empty reference",
        pairs: &[
            ("", "Das ist ein ganzer Satz ohne Übersetzung."),
            ("Ein Satz mit guter Übersetzung steht hier.", "Ein Satz mit guter Übersetzung steht hier."),
            ("Zu viel", ""),
        ],
        bleu: 50.19931845457394,
        chrf: 56.30452754435774,
    },
    Case {
        name: "short hypotheses",
        pairs: &[("Ja.", "Ja, gern."), ("Nein", "Nein!"), ("Oh", "Ach"), ("Gut so", "So gut")],
        bleu: 0.0,
        chrf: 23.775369818872306,
    },
    Case {
        name: "no four-gram at all",
        pairs: &[("Ja.", "Ja."), ("Nein", "Nein.")],
        bleu: 0.0,
        chrf: 78.02197802197803,
    },
    Case {
        name: "an order without a match, smoothed",
        pairs: &[
            ("The cat sat on a big mat", "The dog sat on the red mat"),
            ("He went home at once", "She walked home alone"),
        ],
        bleu: 10.206207261596576,
        chrf: 24.676130972599772,
    },
    Case {
        name: "nothing right",
        pairs: &[("alpha beta gamma delta", "eins zwei drei vier")],
        bleu: 0.0,
        chrf: 3.0120481927710845,
    },
    Case {
        name: "long and repetitive",
        pairs: &[
            (
                "der der der Mann Mann geht geht in in die die Stadt und und und kauft kauft ein neues Buch, das das er dann am Abend Abend zu Hause liest liest, während seine seine Frau schläft.",
                "Der Mann geht in die Stadt und kauft ein neues Buch, das er dann am Abend zu Hause liest, während seine Frau schläft.",
            ),
            (
                "Obwohl es den ganzen Tag geregnet hatte, entschieden sich die Kinder dafür, draußen zu spielen, bis ihre Mutter sie zum Essen rief.",
                "Obwohl es den ganzen Tag regnete, beschlossen die Kinder, draußen zu spielen, bis die Mutter sie zum Abendessen rief.",
            ),
            (
                "Die Regierung hat am Mittwoch beschlossen, die Steuern um 2,5 Prozent zu senken.",
                "Am Mittwoch beschloss die Regierung, die Steuern um 2,5 Prozent zu senken.",
            ),
        ],
        bleu: 45.30686427838514,
        chrf: 79.96744143639076,
    },
    Case {
        name: "other scripts, marks and spaces",
        pairs: &[
            ("你好,世界! 今天天气很好。", "你好，世界！今天天气很好。"),
            ("Привет  мир\u{a0}👋\u{3000}wie gehts", "Привет, мир 👋 wie geht's"),
            ("étude a\u{9}b\u{1f}c", "étude a b c"),
            ("  führende und folgende Leerzeichen  ", "führende und folgende Leerzeichen"),
        ],
        bleu: 37.77893678091174,
        chrf: 80.8620180976146,
    },
];

/// Lines and their 13a tokens, joined by spaces.
pub const TOKENS_13A: &[(&str, &str)] = &[
    (
        "Er sagte: &quot;Nein&quot; -- für 1.000,50 € (netto)...",
        "Er sagte : \" Nein \" -- für 1.000,50 € ( netto ) . . .",
    ),
    (
        "Er sagte: \"Nein!\" - für 1,000.50 € (netto) …",
        "Er sagte : \" Nein ! \" - für 1,000.50 € ( netto ) …",
    ),
    ("„Tom &amp; Jerry“ läuft 24/7, 10-12 Uhr.", "„Tom & Jerry“ läuft 24 / 7 , 10 - 12 Uhr ."),
    ("„Tom & Jerry“ läuft 24/7; 10–12 Uhr.", "„Tom & Jerry“ läuft 24 / 7 ; 10–12 Uhr ."),
    ("a &lt; b, c &gt; d; e-mail: x@y.de, 3.-4.5", "a < b , c > d ; e-mail : x @ y . de , 3 . -4.5"),
    ("a < b , c > d: E-Mail: x@y.de, 3.-4.,5", "a < b , c > d : E-Mail : x @ y . de , 3 . -4 . , 5"),
    (
        "It's 50% o'clock's [sic] {x} ~/p\\q ^ `z` $5",
        "It's 50 % o'clock's [ sic ] { x } ~ / p \\ q ^ ` z ` $ 5",
    ),
    ("Its 50 % o’clock's [sic] {x} ~/p\\q^`z`$ 5", "Its 50 % o’clock's [ sic ] { x } ~ / p \\ q ^ ` z ` $ 5"),
    ("A,B.C,,D..E 1.2.3,", "A , B . C , , D . . E 1.2.3 ,"),
    ("A, B. C,, D.. E 1.2.3 ,", "A , B . C , , D . . E 1.2.3 ,"),
    ("你好,世界! 今天天气很好。", "你好 , 世界 ! 今天天气很好。"),
    ("你好，世界！今天天气很好。", "你好，世界！今天天气很好。"),
    ("Привет  мир\u{a0}👋\u{3000}wie gehts", "Привет мир 👋 wie gehts"),
    ("Привет, мир 👋 wie geht's", "Привет , мир 👋 wie geht's"),
    ("étude a\u{9}b\u{1f}c", "étude a b c"),
    ("étude a b c", "étude a b c"),
    ("  führende und folgende Leerzeichen  ", "führende und folgende Leerzeichen"),
    ("führende und folgende Leerzeichen", "führende und folgende Leerzeichen"),
    ("<skipped>x-\u{a}y\u{a}z", "xy z"),
    ("&amp;quot; &apos;", "& quot ; & apos ;"),
    ("1-2 a-b 1.5.a,2 .5, 5.", "1 - 2 a-b 1.5 . a , 2 . 5 , 5 ."),
    (" . , .. ,. 1.,2", ". , . . , . 1 . , 2"),
];
