//! Many short texts in one block of memory. A million separate strings would take twice as much.

/// Lines by number, in the order of [`push`](Self::push).
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    /// The end of each line in `text`.
    ends: Vec<usize>,
}

impl Lines {
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.ends.push(self.text.len());
    }

    /// Line `index`, from 0; empty if it does not exist.
    pub fn get(&self, index: usize) -> &str {
        let Some(&end) = self.ends.get(index) else { return "" };
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..end]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Releases unused capacity.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
