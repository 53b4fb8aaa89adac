//! Puts numbers, prices and times of day in the form of the target language. Separators are those of CLDR, by ICU4X.

use std::borrow::Cow;

use fixed_decimal::Decimal;
use icu_decimal::DecimalFormatter;
use icu_decimal::options::{DecimalFormatterOptions, GroupingStrategy};
use icu_locale_core::Locale;

use super::Kind;

/// The number formats of a pair of languages. Build it once, because it loads data of CLDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Languages {
    source: Style,
    target: Style,
}

/// The number format of a language.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Style {
    decimal: char,
    /// Separators of groups of digits. All are recognized, the first is written.
    groups: Vec<char>,
    currency_first: bool,
    /// Whether the language writes `6:30 pm`.
    half_days: bool,
}

/// Languages that write the currency before the amount.
const CURRENCY_FIRST: [&str; 9] = ["en", "ja", "zh", "ko", "hi", "nl", "pt", "th", "he"];
const HALF_DAYS: [&str; 6] = ["en", "hi", "ko", "ar", "fil", "ur"];
const CURRENCIES: [char; 10] = ['€', '$', '£', '¥', '₹', '₽', '₩', '₺', '₴', '¢'];

impl Languages {
    /// Takes BCP 47 codes. An unknown language has the separators of English.
    pub fn new(source: &str, target: &str) -> Self {
        Self { source: Style::of(source), target: Style::of(target) }
    }
}

impl Style {
    fn of(code: &str) -> Self {
        let language = code.split(['-', '_']).next().unwrap_or(code);
        let (decimal, group) = separators(code).unwrap_or(('.', ','));
        let mut groups = vec![group];
        if group.is_whitespace() {
            groups.extend([' ', '\u{a0}', '\u{202f}'].into_iter().filter(|&c| c != group));
        }
        Self {
            decimal,
            groups,
            currency_first: CURRENCY_FIRST.contains(&language),
            half_days: HALF_DAYS.contains(&language),
        }
    }
}

/// The separators of decimals and of groups.
fn separators(code: &str) -> Option<(char, char)> {
    let locale = Locale::try_from_str(code).ok()?;
    let mut options = DecimalFormatterOptions::default();
    options.grouping_strategy = Some(GroupingStrategy::Always);
    let formatter = DecimalFormatter::try_new(locale.into(), options).ok()?;
    let text = formatter.format(&"1234.5".parse::<Decimal>().ok()?).to_string();
    let mut separators = text.chars().filter(|c| !c.is_numeric());
    let group = separators.next()?;
    Some((separators.next()?, group))
}

/// A span of the source in the form of the target language. Only numbers and times of day change, and only if they have
/// the form of the source language.
pub fn localise<'a>(text: &'a str, kind: Kind, languages: &Languages) -> Cow<'a, str> {
    let changed = match kind {
        _ if languages.source == languages.target => None,
        Kind::Number => quantity(text, languages),
        Kind::Time if languages.source.half_days && !languages.target.half_days => full_day(text),
        _ => None,
    };
    changed.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// `€12.50`, `-7 °C`, `3.5-4.5 GB`.
fn quantity(text: &str, languages: &Languages) -> Option<String> {
    let is_number =
        |c: char| c.is_ascii_digit() || c == languages.source.decimal || languages.source.groups.contains(&c);
    let mut out = String::with_capacity(text.len() + 2);
    let (mut rest, mut prefix) = (text, None);
    let sign = rest.strip_prefix(['-', '+', '−']).map(|after| &rest[..rest.len() - after.len()]);
    let unsigned = sign.map_or(rest, |sign| &rest[sign.len()..]);
    if let Some(symbol) = unsigned.chars().next().filter(|c| CURRENCIES.contains(c)) {
        prefix = Some(symbol);
        out.push_str(sign.unwrap_or_default());
        rest = unsigned[symbol.len_utf8()..].trim_start();
    }
    while !rest.is_empty() {
        let start = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        // A separator after the last digit belongs to the sentence.
        let digits = rest[..end].trim_end_matches(|c: char| !c.is_ascii_digit());
        out.push_str(&if digits.is_empty() { String::new() } else { number(digits, languages)? });
        rest = &rest[digits.len()..];
        if digits.is_empty() {
            out.push_str(rest);
            rest = "";
        }
    }
    match prefix {
        Some(symbol) if languages.source.currency_first && !languages.target.currency_first => {
            // The currency follows a multiplier ("$5M").
            out.extend([' ', symbol]);
        }
        Some(symbol) => out.insert(sign.map_or(0, str::len), symbol),
        None => {}
    }
    Some(out)
}

/// Digits with separators; `None` if they do not have the form of the source language.
fn number(text: &str, languages: &Languages) -> Option<String> {
    let (source, target) = (&languages.source, &languages.target);
    let (whole, fraction) = match text.split_once(source.decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    if fraction.is_some_and(|fraction| !fraction.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let groups: Vec<&str> = whole.split(|c| source.groups.contains(&c)).collect();
    let well_grouped = groups.len() == 1
        || ((1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3));
    if !well_grouped {
        return None;
    }
    let mut out = groups.join(&String::from(target.groups[0]));
    if let Some(fraction) = fraction {
        out.push(target.decimal);
        out.push_str(fraction);
    }
    Some(out)
}

/// `6:30 pm` as `18:30`.
fn full_day(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase().replace('.', "");
    let (clock, afternoon) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(clock), _) => (clock, false),
        (_, Some(clock)) => (clock, true),
        _ => return None,
    };
    let (hour, minutes) = clock.trim().split_once(':').unwrap_or((clock.trim(), "00"));
    let hour: u8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let hour = hour % 12 + if afternoon { 12 } else { 0 };
    Some(format!("{hour}:{minutes}"))
}
