//! The table of patterns, which are searched together. Of several matches at one position, the first pattern wins.
//!
//! The work is linear in the text. No pattern reads beyond a position where another one may start. So `wide` finds
//! spans whose end may be missing, and runs of letters and digits that are too long for a word.

use std::sync::LazyLock;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, Match, MatchKind, PatternID, PatternSet};

use super::{Kind, Span};

/// The neighbours that are allowed next to a match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Any,
    /// Anything but a digit; before a match, also a digit at the end of another span.
    Digit,
    /// Anything but a letter, digit or underscore.
    Word,
    /// The start or end of the text, white space, a bracket, a quotation mark or the punctuation of a sentence.
    Space,
}

use Edge::{Any, Digit, Space, Word};
use Kind::{Address, Handle, Identifier, Markup, Number, Placeholder, Symbol, Time};

/// Digits with separators.
macro_rules! digits {
    () => {
        r"\d+(?:[.,]\d+)*"
    };
}

/// A unit or a currency after a number, with or without a space.
macro_rules! unit {
    () => {
        concat!(
            r"(?:(?: |\xC2\xA0|\xE2\x80\xAF)?(?:(?:[kKMGT]i?B|[kMG]?bit/s|[kMGT]bps|[kMGT]?Hz|[mcdk]?m|",
            r"[mc]m\xC2[\xB2\xB3]|k?m\xC2[\xB2\xB3]|[mk]?g|[mc]?l|kL|[kM]?Wh?|mAh|km/h|mph|px|pt|dpi|fps|rpm|",
            r"ms|kcal|kJ|hPa|k?V)\b|%|\xC2\xB0[CF]?|\xE2\x82[\xA0-\xBF]|\xC2[\xA2-\xA5]|[$]))?"
        )
    };
}

/// Without a kind, a match is not a span: the model translates its text, and later patterns do not see it.
type Pattern = (Option<Kind>, Edge, &'static str, Edge);

/// Letters and digits are ASCII's in all patterns (`(?-u)`).
const PATTERNS: &[Pattern] = &[
    // Code
    (Some(Markup), Any, r"```[^`]*```|``[^`\n]+``|`[^`\n]+`", Any),
    // Placeholders
    (
        Some(Placeholder),
        Any,
        r"\{\{[^{}\n]{1,80}\}\}|[$#@]\{[^{}\n]{1,80}\}|\$t\([^()\n]{1,80}\)|%\{\w[\w.]*\}",
        Any,
    ),
    (
        Some(Placeholder),
        Any,
        r"\{ ?[\w.$:#@+\-!?|]{0,60}(?:\[\w*\])? ?\}|\{\w+, ?(?:number|date|time)(?:, ?[^{}\n]{1,40})?\}",
        Any,
    ),
    (Some(Placeholder), Any, r"\[\[[^\[\]\n]{1,60}\]\]", Any),
    (Some(Placeholder), Any, r"%\(\w+\)[-+#0]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]", Any),
    (Some(Placeholder), Digit, r"%\d{1,2}\$[-+#0]*\d*(?:\.\d+)?(?:hh|ll|[hlLzjt])?[diouxXeEfFgGcs@]", Any),
    (Some(Placeholder), Word, r"%(?:[A-Z_][A-Z0-9_]+|[A-Za-z_][\w.]{4,})%", Any),
    (Some(Placeholder), Word, r"%[-+#0]*\d*(?:\.\d+)?(?:hh|ll|[hlLzjtq])?[diouxXeEfFgGcs@]", Any),
    // Between letters, as in `%dx%d`, only the plain forms.
    (Some(Placeholder), Digit, r"%(?:\.\d+)?(?:ll|[lz])?[dsiuf@]", Any),
    (Some(Placeholder), Digit, r"%(?:L?\d{1,2}|n|p)", Word),
    (Some(Placeholder), Space, r":[a-z_]\w*(?::|\b)", Word),
    (Some(Placeholder), Word, r"\$[A-Za-z_]\w*", Word),
    // Markup
    (Some(Markup), Any, r"</?[A-Za-z0-9][\w:.\-]*(?:\s[^<>\n]*)?/?>|<!DOCTYPE[^<>\n]*>", Any),
    (Some(Markup), Any, r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});", Any),
    (Some(Markup), Any, r"\*{1,3}|~~|\|\|", Any),
    (Some(Markup), Word, r"__|\[/?[a-z]{1,6}(?:=[^\[\]\n]{1,60})?\]", Any),
    // Addresses
    (Some(Address), Word, r"www\.[\w-]+(?:\.[\w-]+)+(?:[/?#][^\s<>]*[\w/])?", Any),
    (
        Some(Address),
        Word,
        r"(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|io|dev|app|eu|de|at|ch|uk|fr|example)(?::\d+)?(?:/(?:[^\s<>]*[\w/])?)?",
        Word,
    ),
    (
        Some(Address),
        Word,
        r"[A-Za-z]:\\(?:[^\s<>|?*]*[^\s<>|?*.,;:!)])?|\\\\[\w.$-]+(?:\\[\w.$-]+)+|%?[\w.$-]+%?(?:\\[\w.$-]+)+",
        Any,
    ),
    (Some(Address), Space, r"(?:~|\.{1,2})?/(?:[\w.@+%-]+/)*[\w.@+%*-]*[\w*]/?|~/", Any),
    (Some(Address), Word, r"[\w.-]+(?:/[\w.-]+)*/[\w-]*\.[a-z][a-z0-9]{0,4}", Word),
    (Some(Address), Word, r"\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5}|/\d{1,2})?", Word),
    (
        Some(Address),
        Word,
        r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|(?:[0-9A-Fa-f]{1,4}:){3,7}:?[0-9A-Fa-f]{1,4}",
        Word,
    ),
    (
        Some(Address),
        Word,
        r"\+\d{1,3}(?:[ ().\-/]{0,2}\d){6,14}|\(\d{2,5}\) ?\d[\d \-]{3,10}\d|\d{3}-\d{3}-\d{4}|0\d{2,4}[ /\-]\d[\d \-]{3,8}\d",
        Word,
    ),
    // Symbols of ASCII
    (Some(Symbol), Word, r"\((?:[cC]|[rR]|[tT][mM])\)", Any),
    (Some(Symbol), Space, r"[:;=]-?[()\[\]DPpOo/\\|*3]|<3|:'\(|\^\^", Space),
    (
        Some(Symbol),
        Any,
        r"\\[nrtb0\x22'\\]|<?-{1,2}>|<-{1,2}|=>|<=|>=|!=|==|&&|[0-9#*]\x{EF}\x{B8}\x{8F}?\x{E2}\x{83}\x{A3}",
        Any,
    ),
    // Dates and times
    (Some(Time), Word, r"\d{2}:\d{2}:\d{2}[,.]\d{3}(?: --> \d{2}:\d{2}:\d{2}[,.]\d{3})?", Word),
    (
        Some(Time),
        Word,
        r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
        Word,
    ),
    (Some(Time), Word, r"\d{1,2}(?::\d{2})? ?(?:[ap]\.m\.|[AaPp][Mm]\b)", Any),
    (Some(Time), Word, r"\d{1,2}:\d{2}(?::\d{2})?", Word),
    (
        Some(Time),
        Word,
        r"\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})|\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})|\d{4}/\d{1,2}/\d{1,2}",
        Word,
    ),
    // Identifiers
    (Some(Identifier), Word, r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|0x[0-9A-Fa-f]+", Word),
    (
        Some(Identifier),
        Word,
        r"[vV]\d+(?:\.\d+)*(?:-[a-z0-9.]*[a-z0-9])?|\d+(?:\.\d+){2,}(?:[-+][0-9A-Za-z.-]*[0-9A-Za-z])?",
        Word,
    ),
    (
        Some(Identifier),
        Word,
        r"(?:[Vv]ersion|[Rr]elease|[Ss]ection|[Cc]hapter|[Ff]igure|[Tt]able|USB|Bluetooth|Python|Android|iOS|macOS|Windows|HTML|HTTP|TLS|Java|PHP|Ubuntu|Debian|Firefox) \d+\.\d+",
        Word,
    ),
    (Some(Identifier), Space, r"--[A-Za-z][\w-]*(?:=[^\s,;]+)?|-[A-Za-z]", Space),
    (
        Some(Identifier),
        Word,
        r"(?:Ctrl|Alt|Shift|Cmd|Command|Option|Super|Meta|Win|Fn)(?: ?\+ ?(?:\w+|[^\s\w]))+",
        Any,
    ),
    (
        Some(Identifier),
        Word,
        r"[\w-]*\w(?:\.[\w-]+)*\.(?:md|txt|toml|json|ya?ml|xml|html?|css|jsx?|tsx?|rs|py|c|h|cpp|hpp|java|go|rb|php|sh|bat|exe|dll|so|zip|tar|t?gz|bz2|xz|7z|pdf|docx?|xlsx?|pptx?|od[tsp]|csv|tsv|png|jpe?g|gif|svg|webp|ico|bmp|mp[34]|wav|ogg|flac|mkv|avi|mov|ini|cfg|conf|log|lock|deb|rpm|apk|dmg|iso|jar|sql|db|bak|tmp|ttf|otf|po|desktop|service)",
        Word,
    ),
    (Some(Identifier), Space, r"\.[a-z][\w-]+", Word),
    (Some(Identifier), Word, r"[A-Za-z_][\w.:]*\(\)|[A-Za-z_]\w+(?:\.[a-z_]\w+){2,}|\w+(?:::\w+)+", Any),
    (Some(Identifier), Word, r"_*[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)+_*", Word),
    (Some(Identifier), Word, r"[A-Za-z]?[a-z]+[A-Z]\w*|[A-Z]{2,}[a-z]{2,}\w*[A-Z]\w*", Word),
    (Some(Identifier), Word, r"C\+\+|[CFJ]#", Any),
    (Some(Identifier), Word, r"[A-Z][a-z]+ \d{1,3} (?:Pro|Max|Mini|Plus|Ultra|Air|Lite)(?: Max)?", Word),
    (
        Some(Identifier),
        Word,
        r"\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Road|Street|Avenue|Lane|Drive|Square|Boulevard|Terrace)",
        Word,
    ),
    // Ordinals and decades, which the model translates.
    (None, Word, r"\d+(?:st|nd|rd|th)|\d*\d0s", Word),
    // Numbers
    (Some(Number), Word, concat!(r"[-+]?[$]-?", digits!(), r"(?: ?[kKMB]\b)?"), Word),
    (
        Some(Number),
        Word,
        concat!(r"(?:\xE2\x82[\xA0-\xBF]|\xC2[\xA2-\xA5]) ?-?", digits!(), r"(?: ?[kKMB]\b)?"),
        Word,
    ),
    (Some(Identifier), Word, r"\d+(?:[x:/]|\xC3\x97)\d+(?:(?:[x:/]|\xC3\x97)\d+)*", Word),
    (Some(Identifier), Word, r"[A-Za-z]+\d+\w*|[A-Z]{2,}(?:-\d+)+\w*|\d+[A-Za-z]\w*", Word),
    (Some(Number), Space, concat!(r"(?:[-+]|\xE2\x88\x92)", digits!(), unit!()), Word),
    (Some(Number), Word, concat!(digits!(), r"(?:-|\xE2\x80\x93)", digits!(), unit!()), Word),
    (Some(Number), Word, concat!(digits!(), unit!()), Word),
    // Handles
    (Some(Handle), Word, r"@\w[\w.-]*\w|@\w|#\w[\w-]*", Word),
    (Some(Symbol), Any, r"[{}<>\\|^~_=#@`%$]", Any),
];

/// The compiled patterns.
struct Patterns {
    /// Finds the first match.
    first: Regex,
    /// Finds all patterns that match at one position.
    all: Regex,
}

static REGEX: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let pattern = |&(_, before, pattern, _): &Pattern| match before {
        // A match never starts inside an ASCII word.
        Word | Space => format!(r"(?-u)\b{{start-half}}(?:{pattern})"),
        Any | Digit => format!("(?-u){pattern}"),
    };
    let patterns: Vec<String> = PATTERNS.iter().map(pattern).collect();
    let build = |kind: MatchKind| {
        let config = Regex::config().match_kind(kind);
        let syntax = syntax::Config::new().utf8(false);
        Regex::builder().configure(config).syntax(syntax).build_many(&patterns).ok()
    };
    // The table is constant, and a test compiles it, so this does not fail.
    Some(Patterns { first: build(MatchKind::LeftmostFirst)?, all: build(MatchKind::All)? })
});

/// The matches in a text, searched one at a time.
pub struct Matches<'a> {
    text: &'a str,
    /// The last match; `Some(None)` at the end of the search.
    found: Option<Option<Span>>,
    /// Number of bytes that were searched again, because the neighbours of a match do not fit.
    rescanned_bytes: usize,
}

/// Limit of the bytes that are searched again: this many for each byte of the text, plus a constant.
const RESCANS_PER_BYTE: usize = 8;
const MIN_RESCAN_BYTES: usize = 8192;

impl<'a> Matches<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, found: None, rescanned_bytes: 0 }
    }

    /// The first span that starts at `at` or later. `at` is the end of the last span, and never decreases.
    pub fn first_from(&mut self, at: usize) -> Option<Span> {
        match &self.found {
            Some(None) => return None,
            Some(Some(span)) if span.range.start >= at => return Some(span.clone()),
            _ => {}
        }
        let found = REGEX.as_ref().and_then(|patterns| self.search(patterns, at));
        self.found = Some(found.clone());
        found
    }

    fn search(&mut self, patterns: &Patterns, edge: usize) -> Option<Span> {
        let mut at = edge;
        while at < self.text.len() {
            let found = patterns.first.find(Input::new(self.text).range(at..))?;
            let fitting =
                if self.fits(&found, edge) { Some(found) } else { self.later_match(patterns, &found, edge) };
            match fitting.map(|found| (PATTERNS[found.pattern().as_usize()].0, found.range())) {
                Some((Some(kind), range)) => return Some(Span { range, kind }),
                Some((None, range)) => at = range.end,
                None => {
                    // Another match may start inside this one.
                    self.rescanned_bytes = self.rescanned_bytes.saturating_add(found.len());
                    let again = self.rescanned_bytes <= RESCANS_PER_BYTE * self.text.len() + MIN_RESCAN_BYTES;
                    let next = if again { found.start() + 1 } else { found.end().max(found.start() + 1) };
                    at = boundary(self.text, next);
                }
            }
        }
        None
    }

    /// The match of the first later pattern than that of `found` that matches at the same position and whose neighbours
    /// fit. A pattern whose neighbours do not fit must not hide later patterns.
    fn later_match(&self, patterns: &Patterns, found: &Match, edge: usize) -> Option<Match> {
        let input = || Input::new(self.text).range(found.start()..);
        let mut matching = PatternSet::new(PATTERNS.len());
        patterns.all.which_overlapping_matches(&input().anchored(Anchored::Yes), &mut matching);
        let later = matching.iter().filter(|&pattern: &PatternID| pattern > found.pattern());
        later
            .filter_map(|pattern| patterns.first.find(input().anchored(Anchored::Pattern(pattern))))
            .find(|found| self.fits(found, edge))
    }

    /// Whether a match consists of complete characters, and its pattern allows its neighbours.
    fn fits(&self, found: &Match, edge: usize) -> bool {
        let (text, start, end) = (self.text, found.start(), found.end());
        let (_, before, _, after) = PATTERNS[found.pattern().as_usize()];
        let Some(span) = text.get(start..end).filter(|span| !span.is_empty()) else { return false };
        let previous = text[..start].chars().next_back();
        let next = text[end..].chars().next();
        let after_span = before == Digit && start == edge;
        let inner = after != Word || span.ends_with(is_word);
        (after_span || allows(before, previous, false)) && (!inner || allows(after, next, true))
    }
}

/// The first boundary between characters from `at` on.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// Whether an edge allows this neighbour; `closing` for the one after a match.
fn allows(edge: Edge, neighbour: Option<char>, closing: bool) -> bool {
    match (edge, neighbour) {
        (Any, _) | (_, None) => true,
        (Digit, Some(c)) => !c.is_numeric(),
        (Word, Some(c)) => !is_word(c),
        (Space, Some(c)) => {
            c.is_whitespace()
                || matches!(c, '"' | '\'' | '“' | '”' | '„' | '‘' | '’')
                || (closing && matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | ')' | ']' | '|'))
                || (!closing && matches!(c, '(' | '[' | '=' | ':' | '|'))
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
pub(super) fn are_valid() -> bool {
    REGEX.is_some()
}
