//! The table of patterns, searched for in one pass. Of several that match at one place the first counts.

use std::sync::LazyLock;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID};

use super::{Kind, Span};

/// What may stand at an end of a match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Any,
    /// No letter, digit or underscore.
    Word,
    /// The start or end of the text, white space, a bracket, a quotation mark or the punctuation of a sentence.
    Space,
}

use Edge::{Any, Space, Word};
use Kind::{Address, Handle, Identifier, Markup, Number, Placeholder, Symbol, Time};

/// Digits with separators.
macro_rules! digits {
    () => {
        r"\d+(?:[.,]\d+)*"
    };
}

/// A unit or a currency behind a number, with or without a space.
macro_rules! unit {
    () => {
        concat!(
            r"(?:(?: |\xC2\xA0|\xE2\x80\xAF)?(?:(?:[kKMGT]i?B|[kMG]?bit/s|[kMGT]bps|[kMGT]?Hz|[mcdk]?m|",
            r"[mc]m\xC2[\xB2\xB3]|k?m\xC2[\xB2\xB3]|[mk]?g|[mc]?l|kL|[kM]?Wh?|mAh|km/h|mph|px|pt|dpi|fps|rpm|",
            r"ms|kcal|kJ|hPa|k?V)\b|%|\xC2\xB0[CF]?|\xE2\x82[\xA0-\xBF]|\xC2[\xA2-\xA5]|[$]))?"
        )
    };
}

/// None of a kind: a match that hides its text from the patterns below, and is left to the model.
type Pattern = (Option<Kind>, Edge, &'static str, Edge);

/// Letters and digits are ASCII's in all patterns (`(?-u)`).
const PATTERNS: &[Pattern] = &[
    // Code
    (Some(Markup), Any, r"```[^`]*```|``[^`\n]+``|`[^`\n]+`", Any),
    (
        Some(Identifier),
        Word,
        r"(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|DROP TABLE|CREATE TABLE|ALTER TABLE)\b[^;\n]*;",
        Any,
    ),
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
    (Some(Placeholder), Word, r"%\d{1,2}\$[-+#0]*\d*(?:\.\d+)?(?:hh|ll|[hlLzjt])?[diouxXeEfFgGcs@]", Any),
    (Some(Placeholder), Word, r"%[A-Za-z_][\w.]+%", Any),
    (Some(Placeholder), Word, r"%[-+#0]*\d*(?:\.\d+)?(?:hh|ll|[hlLzjtq])?[diouxXeEfFgGcs@]", Any),
    (Some(Placeholder), Word, r"%(?:L?\d{1,2}|n|p)", Word),
    (Some(Placeholder), Space, r":[a-z_]\w*(?::|\b)", Word),
    (Some(Placeholder), Word, r"\$[A-Za-z_]\w*", Word),
    // Markup
    (Some(Markup), Any, r"<!--[^\n]*?-->|</?[A-Za-z0-9][\w:.\-]*(?:\s[^<>\n]*)?/?>|<!DOCTYPE[^<>\n]*>", Any),
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
    // Left to the model: ordinals, decades.
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

static REGEX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let patterns: Vec<String> = PATTERNS.iter().map(|(_, _, pattern, _)| format!("(?-u){pattern}")).collect();
    let syntax = syntax::Config::new().utf8(false);
    // The table is fixed: a test builds it.
    Regex::builder().syntax(syntax).build_many(&patterns).ok()
});

/// Matches in a text, looked for as far as they are asked for.
pub struct Matches<'a> {
    text: &'a str,
    /// The last one that was found, or the end of the search.
    found: Option<Option<Span>>,
    /// ICU blocks that are not asked for yet, the first one last.
    plural_blocks: Vec<Span>,
}

impl<'a> Matches<'a> {
    pub fn new(text: &'a str) -> Self {
        let plural_blocks =
            text.contains(", plural,") || text.contains("select") || text.contains(",plural,");
        let plural_blocks = if plural_blocks { self::plural_blocks(text) } else { Vec::new() };
        Self { text, found: None, plural_blocks }
    }

    /// The first span that starts at `at` or later. `at` never decreases.
    pub fn first_from(&mut self, at: usize) -> Option<Span> {
        match &self.found {
            Some(None) => return None,
            Some(Some(span)) if span.range.start >= at => return Some(span.clone()),
            _ => {}
        }
        let found = self.search(at);
        self.found = Some(found.clone());
        found
    }

    fn search(&mut self, mut at: usize) -> Option<Span> {
        let regex = REGEX.as_ref()?;
        let text = self.text;
        while self.plural_blocks.pop_if(|block| block.range.start < at).is_some() {}
        let block = self.plural_blocks.last().cloned();
        while at < text.len() {
            let found = regex.find(Input::new(text).range(at..));
            let found =
                found.filter(|found| block.as_ref().is_none_or(|block| found.start() < block.range.start));
            let Some(found) = found else { return block };
            let start = found.start();
            // A pattern whose neighbours do not fit must not hide the later ones that match here too.
            let later = (found.pattern().as_usize() + 1..PATTERNS.len()).filter_map(|index| {
                let pattern = Anchored::Pattern(PatternID::new(index).ok()?);
                regex.find(Input::new(text).range(start..).anchored(pattern))
            });
            let fitting = std::iter::once(found).chain(later).find(|found| {
                let ((_, before, _, after), range) = (PATTERNS[found.pattern().as_usize()], found.range());
                let whole = text.is_char_boundary(range.start) && text.is_char_boundary(range.end);
                whole && !range.is_empty() && fits(text, range.start, range.end, before, after)
            });
            match fitting.map(|found| (PATTERNS[found.pattern().as_usize()].0, found.range())) {
                Some((Some(kind), range)) => return Some(Span { range, kind }),
                Some((None, range)) => at = range.end,
                // The rest of a word that does not fit is no word of its own.
                None => at = next_boundary(text, start),
            }
        }
        block
    }
}

fn next_boundary(text: &str, at: usize) -> usize {
    (at + 1..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

fn fits(text: &str, start: usize, end: usize, before: Edge, after: Edge) -> bool {
    let previous = text.get(..start).and_then(|text| text.chars().next_back());
    let next = text.get(end..).and_then(|text| text.chars().next());
    let inner = |edge: Edge| {
        text.get(start..end).is_some_and(|span| match edge {
            Word => span.chars().next_back().is_some_and(is_word),
            _ => true,
        })
    };
    let allows = |edge: Edge, c: Option<char>, closing: bool| match (edge, c) {
        (Any, _) | (_, None) => true,
        (Word, Some(c)) => !is_word(c),
        (Space, Some(c)) => {
            c.is_whitespace()
                || matches!(c, '"' | '\'' | '“' | '”' | '„' | '‘' | '’')
                || (closing && matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | ')' | ']' | '|'))
                || (!closing && matches!(c, '(' | '[' | '=' | ':' | '|'))
        }
    };
    allows(before, previous, false) && (allows(after, next, true) || !inner(after))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The ICU blocks of plural or select forms, whole, the first one last: `{count, plural, one {# photo} other {# photos}}`.
/// One pass, however many braces there are.
fn plural_blocks(text: &str) -> Vec<Span> {
    let mut blocks = Vec::new();
    let mut open = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => {
                if let Some(start) = open.pop()
                    && is_plural(&text[start + 1..at])
                {
                    blocks.push(Span { range: start..at + 1, kind: Placeholder });
                }
            }
            _ => {}
        }
    }
    blocks.sort_unstable_by_key(|block| std::cmp::Reverse(block.range.start));
    blocks
}

/// Whether a block's content begins with a name and the kind of its forms.
fn is_plural(content: &str) -> bool {
    let head = content.split(['{', '}']).next().unwrap_or_default();
    let mut parts = head.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let form = parts.next().unwrap_or_default();
    !name.is_empty() && matches!(form, "plural" | "select" | "selectordinal")
}

#[cfg(test)]
pub(super) fn are_valid() -> bool {
    REGEX.is_some()
}
