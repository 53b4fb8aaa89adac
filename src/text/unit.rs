//! A sentence, or a part of one that fits the network, and the state of its translation. It is first translated as one
//! source that includes its spans. If no translation keeps all spans, the pieces between them are translated.

use super::atom::{Atom, SpanAtom, texts};
use super::case::{Case, as_inner_part, is_acronym};
use super::characters::{Typography, plain};
use super::reader::Reader;
use super::render::{self, Check};
use super::request::{Candidate, Effort, Request, Warning};
use super::spans::Kind;
use super::split::clause_ends;
use super::tokenizer::Part;
use crate::Result;

/// Mean log-probability of a token below which a translation is uncertain: a probability of 0.3.
const UNCERTAIN: f32 = -1.2;

#[derive(Debug)]
pub(super) struct Unit {
    atoms: Vec<Atom>,
    case: Case,
    typography: Typography,
    mark: Option<char>,
    state: State,
    /// The source of the whole unit, `bos x1..xn eos`; empty if it is translated in pieces from the start.
    source: Vec<u32>,
    /// Valid translations, best first.
    pub translations: Vec<String>,
    /// The best implausible translation that keeps all spans.
    fallback: Option<(String, Warning)>,
    pub warnings: Vec<Warning>,
    /// The numbers, in the document, of the requests whose answers are used.
    pub used: Vec<usize>,
    pub retried: bool,
}

#[derive(Debug)]
enum State {
    Whole(Effort),
    Pieces(Vec<Piece>),
    Done,
}

/// A piece of a sentence that is translated in pieces.
#[derive(Debug)]
enum Piece {
    Fixed(String),
    Source { before: String, core: String, after: String },
}

impl Unit {
    /// # Errors
    /// The atoms, if they exceed the network's limit.
    pub fn new(atoms: Vec<Atom>, reader: &Reader) -> Result<Self, Vec<Atom>> {
        let mut text = String::with_capacity(64);
        texts(&atoms).for_each(|part| text.push_str(part));
        let core = text.trim_matches(|c: char| !c.is_alphanumeric());
        let one_letter = core.chars().count() == 1 && !matches!(core, "I" | "a" | "A");
        if !text.contains(char::is_alphabetic) || one_letter || is_acronym(core, &reader.tokenizer) {
            return Ok(Self::copied(atoms));
        }
        if !reader.fits_bytes(&text) {
            return Err(atoms);
        }
        let mut unit = Self {
            case: Case::of(&text),
            typography: Typography::of(&text),
            mark: render::final_mark(&atoms),
            state: State::Whole(Effort::Usual),
            source: Vec::new(),
            translations: Vec::new(),
            fallback: None,
            warnings: Vec::new(),
            used: Vec::new(),
            retried: false,
            atoms,
        };
        if !unit.carries_spans(reader) {
            if reader.count(&plain(&text)) > reader.limit {
                return Err(unit.atoms);
            }
            unit.split_into_pieces(reader);
            return Ok(unit);
        }
        match unit.whole_source(reader) {
            Ok(source) if source.len() <= reader.limit => {
                unit.source = source;
                Ok(unit)
            }
            _ => Err(unit.atoms),
        }
    }

    /// A unit that is copied, not translated.
    pub fn copied(atoms: Vec<Atom>) -> Self {
        let copy = atoms.iter().map(Atom::untranslated).collect();
        Self {
            atoms,
            case: Case::Ordinary,
            typography: Typography::default(),
            mark: None,
            state: State::Done,
            source: Vec::new(),
            translations: vec![copy],
            fallback: None,
            warnings: Vec::new(),
            used: Vec::new(),
            retried: false,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The sources to translate next, in order.
    pub fn requests(&self, reader: &Reader) -> Result<Vec<Request>> {
        match &self.state {
            State::Done => Ok(Vec::new()),
            &State::Whole(effort) => Ok(vec![Request { source: self.source.clone(), effort }]),
            State::Pieces(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Fixed(_) => None,
                    Piece::Source { core, .. } => Some(core),
                })
                .map(|core| Ok(Request { source: reader.tokenizer.encode(core)?, effort: Effort::Usual }))
                .collect(),
        }
    }

    /// Takes the answers to [`requests`](Self::requests), each with its number in the document.
    pub fn answer(&mut self, answers: Vec<(usize, Vec<Candidate>)>, reader: &Reader) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Ok(()),
            State::Whole(effort) => {
                let (number, candidates) = answers.into_iter().next().unzip();
                self.check_candidates(effort, number, &candidates.unwrap_or_default(), reader)
            }
            State::Pieces(pieces) => self.join(&pieces, &answers, reader),
        }
    }

    fn check_candidates(
        &mut self,
        effort: Effort,
        number: Option<usize>,
        candidates: &[Candidate],
        reader: &Reader,
    ) -> Result<()> {
        let source = self.source_tokens(reader);
        let (case, typography) = (self.case, self.typography);
        let check = Check { reserved: self.uses_reserved(reader), source, case, typography };
        let mut lost = false;
        for candidate in candidates {
            let checked = render::check(&self.atoms, candidate, check, reader)?;
            let Some(text) = checked.text else {
                lost = true;
                continue;
            };
            let text = self.set_final_mark(text, checked.ends_in_span);
            match checked.warning {
                None if checked.whole => {
                    if self.translations.is_empty() && candidate.score < UNCERTAIN {
                        self.warnings.push(Warning::Uncertain);
                    }
                    if !self.translations.contains(&text) {
                        self.translations.push(text);
                    }
                }
                warning if self.fallback.is_none() => {
                    self.fallback = Some((text, warning.unwrap_or(Warning::Uncertain)));
                }
                _ => {}
            }
        }
        self.used = number.into_iter().collect();
        if !self.translations.is_empty() {
            return Ok(());
        }
        let spans = self.atoms.iter().any(|atom| matches!(atom, Atom::Span(_)));
        match effort {
            // Without reserved tokens another attempt rarely keeps what the first one lost.
            Effort::Usual if !lost || check.reserved => {
                self.retried = true;
                self.state = State::Whole(Effort::More);
            }
            _ if lost || self.fallback.is_none() => self.split_into_pieces(reader),
            _ if !spans && self.is_short() && self.clauses() > 1 => self.split_into_pieces(reader),
            _ => self.accept_fallback(),
        }
        Ok(())
    }

    fn is_short(&self) -> bool {
        self.fallback.as_ref().is_some_and(|(_, warning)| *warning == Warning::Short)
    }

    fn clauses(&self) -> usize {
        texts(&self.atoms).map(|text| clause_ends(text).count()).sum()
    }

    fn accept_fallback(&mut self) {
        if let Some((text, warning)) = self.fallback.take() {
            self.warnings.push(warning);
            self.accept(text);
        }
    }

    fn accept(&mut self, text: String) {
        self.translations.push(text);
        self.state = State::Done;
    }

    /// Switches to pieces: the text between spans or, without spans, the clauses.
    fn split_into_pieces(&mut self, reader: &Reader) {
        let spans = self.atoms.iter().any(|atom| matches!(atom, Atom::Span(_)));
        let mut pieces = Vec::new();
        let mut first = true;
        for atom in &self.atoms {
            let text = match atom {
                Atom::Span(span) => {
                    pieces.push(Piece::Fixed(span.replacement.clone()));
                    continue;
                }
                Atom::Text(text) => text,
            };
            let ends: Vec<usize> = if spans { vec![text.len()] } else { clause_ends(text).collect() };
            let mut start = 0;
            for end in ends {
                pieces.push(self.piece(&text[start..end], &mut first, reader));
                start = end;
            }
        }
        if spans {
            self.warnings.push(Warning::Split);
        }
        self.used.clear();
        self.state = State::Pieces(pieces);
        if self.requests(reader).is_ok_and(|requests| requests.is_empty()) {
            // Nothing to translate: all is fixed.
            let copy = self.atoms.iter().map(Atom::untranslated).collect();
            self.accept(copy);
        }
    }

    fn piece(&self, text: &str, first: &mut bool, reader: &Reader) -> Piece {
        let core = text.trim_matches(|c: char| !c.is_alphanumeric());
        let fits = |core: &str| reader.fits_bytes(core) && reader.count(core) <= reader.limit;
        if !core.contains(char::is_alphabetic) {
            return Piece::Fixed(text.to_owned());
        }
        let source = self.case.lowered(&plain(core), *first, &reader.tokenizer);
        *first = false;
        if !fits(&source) {
            return Piece::Fixed(text.to_owned());
        }
        let start = text.len() - text.trim_start_matches(|c: char| !c.is_alphanumeric()).len();
        let (before, after) = (&text[..start], &text[start + core.len()..]);
        Piece::Source { before: before.to_owned(), core: source, after: after.to_owned() }
    }

    fn join(&mut self, pieces: &[Piece], answers: &[(usize, Vec<Candidate>)], reader: &Reader) -> Result<()> {
        self.used.extend(answers.iter().map(|(number, _)| *number));
        let ranks = answers.iter().map(|(_, candidates)| candidates.len()).max().unwrap_or(0);
        for rank in 0..ranks.max(1) {
            let text = self.joined(pieces, answers, rank, reader)?;
            if !self.translations.contains(&text) {
                self.translations.push(text);
            }
        }
        Ok(())
    }

    /// Joins the pieces with their candidates of this rank. Pieces with fewer candidates have their best one.
    fn joined(
        &self,
        pieces: &[Piece],
        answers: &[(usize, Vec<Candidate>)],
        rank: usize,
        reader: &Reader,
    ) -> Result<String> {
        let mut answers = answers.iter();
        let mut text = String::new();
        let mut first = true;
        for piece in pieces {
            let (before, core, after) = match piece {
                Piece::Fixed(fixed) => {
                    text.push_str(fixed);
                    continue;
                }
                Piece::Source { before, core, after } => (before, core, after),
            };
            let candidates = answers.next().map_or(&[][..], |(_, candidates)| candidates);
            let words = words_of_rank(candidates, rank, reader)?;
            let words = render::with_final_mark(words, None);
            let inner = !first && core.starts_with(char::is_lowercase);
            let words = if inner { as_inner_part(words, &reader.tokenizer) } else { words };
            let words = self.typography.apply(self.case.restored(words), &reader.target, &mut false);
            // A piece without a translation is copied.
            let words = if words.trim().is_empty() { self.case.restored(core.clone()) } else { words };
            text.extend([before.as_str(), words.trim(), after.as_str()]);
            first = false;
        }
        Ok(text)
    }

    fn uses_reserved(&self, reader: &Reader) -> bool {
        let spans = self.spans().count();
        spans > 0 && spans <= reader.tokenizer.reserved()
    }

    /// Whether the network can copy its spans: as reserved tokens, or as digits.
    fn carries_spans(&self, reader: &Reader) -> bool {
        let digits = |span: &SpanAtom| matches!(span.kind, Kind::Number | Kind::Time) && span.text.len() < 24;
        self.uses_reserved(reader) || self.spans().all(digits)
    }

    fn spans(&self) -> impl Iterator<Item = &SpanAtom> {
        self.atoms.iter().filter_map(|atom| match atom {
            Atom::Span(span) => Some(span),
            Atom::Text(_) => None,
        })
    }

    fn whole_source(&self, reader: &Reader) -> Result<Vec<u32>> {
        let mut first = true;
        let texts: Vec<Option<String>> = self
            .atoms
            .iter()
            .map(|atom| match atom {
                Atom::Span(span) => {
                    // A placeholder or a number starts a sentence.
                    first &= matches!(span.kind, Kind::Markup | Kind::Symbol);
                    None
                }
                Atom::Text(text) => {
                    let lowered = self.case.lowered(&plain(text), first, &reader.tokenizer);
                    first &= !text.contains(char::is_alphabetic);
                    Some(lowered)
                }
            })
            .collect();
        if self.uses_reserved(reader) {
            let mut index = 0;
            let parts = texts.iter().map(|text| match text {
                Some(text) => Part::Text(text.as_str()),
                None => {
                    index += 1;
                    reader.tokenizer.reserved_id(index - 1).map_or(Part::Text(""), Part::Token)
                }
            });
            return reader.tokenizer.encode_parts(&parts.collect::<Vec<_>>());
        }
        let whole = self.atoms.iter().zip(&texts).map(|(atom, text)| match (atom, text) {
            (Atom::Span(span), _) => span.text.as_str(),
            (Atom::Text(_), Some(text)) => text,
            (Atom::Text(text), None) => text,
        });
        reader.tokenizer.encode(whole.collect::<String>().trim())
    }

    /// Number of tokens of its source, without spans.
    fn source_tokens(&self, reader: &Reader) -> usize {
        let spans = if self.uses_reserved(reader) { self.spans().count() } else { 0 };
        self.source.len().saturating_sub(2 + spans)
    }

    fn set_final_mark(&self, text: String, ends_in_span: bool) -> String {
        // The final mark of a span is not removed.
        let takes_mark = self.ends_in_text() && (!ends_in_span || self.mark.is_some());
        if takes_mark { render::with_final_mark(text, self.mark) } else { text }
    }

    fn ends_in_text(&self) -> bool {
        matches!(self.atoms.last(), Some(Atom::Text(_)))
    }
}

/// The words of the candidate of this rank among those with only complete characters. If there are fewer, the words of
/// the best one.
fn words_of_rank(candidates: &[Candidate], rank: usize, reader: &Reader) -> Result<String> {
    let (mut best, mut whole_so_far) = (None, 0);
    for candidate in candidates {
        let (words, whole) = render::words(candidate, reader)?;
        if whole && whole_so_far == rank {
            return Ok(words);
        }
        if (whole && whole_so_far == 0) || best.is_none() {
            best = Some(words);
        }
        whole_so_far += usize::from(whole);
    }
    Ok(best.unwrap_or_default())
}
