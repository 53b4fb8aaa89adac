//! Many short texts in one piece of memory: a million sentences as strings would cost as much again in headers and gaps.

/// Lines by number, in the order in which they were pushed.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    /// Where each line ends in `text`.
    ends: Vec<usize>,
}

impl Lines {
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.ends.push(self.text.len());
    }

    /// Line `index`, from 0; empty where there is none.
    pub fn get(&self, index: usize) -> &str {
        let Some(&end) = self.ends.get(index) else { return "" };
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..end]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Gives back the memory that was kept for more lines.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
