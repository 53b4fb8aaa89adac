//! Checks a pickle before it is read. candle's reader trusts every length in it, and copies whatever is taken from
//! the memo, so a damaged or malicious file could exhaust memory.
//!
//! The check runs the same operations with sizes instead of objects. It knows what operations do to the stack, but
//! not what objects mean.

use std::collections::HashMap;

/// Largest size of a pickle. A checkpoint with optimizer state has some hundred kilobytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Largest nesting depth. Dropping deeper objects would overflow the stack.
const MAX_DEPTH: u32 = 256;

/// Number of objects that may be copied: a constant, plus this many for each byte of the pickle.
const COPIES_PER_BYTE: u64 = 8;
const COPIES: u64 = 100_000;

/// The size of an object.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Number of objects inside, itself included.
    objects: u64,
    depth: u32,
}

impl Size {
    const ONE: Self = Self { objects: 1, depth: 1 };

    /// The size of an object with these parts.
    fn around(parts: impl IntoIterator<Item = Self>) -> Self {
        let add = |all: Self, part: Self| Self {
            objects: all.objects.saturating_add(part.objects),
            depth: all.depth.max(part.depth.saturating_add(1)),
        };
        parts.into_iter().fold(Self::ONE, add)
    }
}

enum Entry {
    Object(Size),
    Mark,
}

struct Checked<'a> {
    rest: &'a [u8],
    stack: Vec<Entry>,
    memo: HashMap<u32, Size>,
    copies_left: u64,
}

/// # Errors
/// Why the pickle cannot be read in bounded time and memory.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("its pickle has {} bytes, more than {MAX_BYTES}", bytes.len()));
    }
    let copies_left = COPIES + COPIES_PER_BYTE * bytes.len() as u64;
    let mut checked = Checked { rest: bytes, stack: Vec::new(), memo: HashMap::new(), copies_left };
    while checked.step()? {}
    Ok(())
}

impl Checked<'_> {
    /// Runs one operation. Returns false after the last one.
    fn step(&mut self) -> Result<bool, String> {
        let operation = self.bytes(1)?[0];
        match operation {
            // PROTO
            0x80 => {
                self.bytes(1)?;
            }
            // STOP
            b'.' => return Ok(false),
            // GLOBAL: two lines
            b'c' => {
                let size = self.line()? + self.line()?;
                self.push(Size { objects: 1 + size as u64 / 32, depth: 1 })?;
            }
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, NONE, NEWTRUE, NEWFALSE
            b')' | b']' | b'}' | b'N' | 0x88 | 0x89 => self.push(Size::ONE)?,
            // BININT1, BININT2, BININT, BINFLOAT
            b'K' => self.plain(1)?,
            b'M' => self.plain(2)?,
            b'J' => self.plain(4)?,
            b'G' => self.plain(8)?,
            // LONG1; candle's integers have 64 bits
            0x8a => match self.bytes(1)?[0] {
                length @ 0..=8 => self.plain(length.into())?,
                length => return Err(format!("its pickle has a number of {length} bytes")),
            },
            // BINUNICODE
            b'X' => {
                let length = self.number()? as usize;
                let length = self.bytes(length)?.len();
                self.push(Size { objects: 1 + length as u64 / 32, depth: 1 })?;
            }
            // MARK
            b'(' => self.stack.push(Entry::Mark),
            // TUPLE; DICT, which candle reads as empty
            b't' => {
                let parts = self.pop_to_mark()?;
                self.push(Size::around(parts))?;
            }
            b'd' => self.push(Size::ONE)?,
            // TUPLE1, BINPERSID; TUPLE2, REDUCE, NEWOBJ, BUILD; TUPLE3
            0x85 | b'Q' => self.join(1)?,
            0x86 | b'R' | 0x81 | b'b' => self.join(2)?,
            0x87 => self.join(3)?,
            // APPEND, SETITEM
            b'a' => self.join(2)?,
            b's' => self.join(3)?,
            // APPENDS, SETITEMS
            b'e' | b'u' => {
                let mut parts = self.pop_to_mark()?;
                parts.push(self.pop()?);
                self.push(Size::around(parts))?;
            }
            // BINPUT, LONG_BINPUT
            b'q' => {
                let key = self.bytes(1)?[0].into();
                self.put(key)?;
            }
            b'r' => {
                let key = self.number()?;
                self.put(key)?;
            }
            // BINGET, LONG_BINGET
            b'h' => {
                let key = self.bytes(1)?[0].into();
                self.get(key)?;
            }
            b'j' => {
                let key = self.number()?;
                self.get(key)?;
            }
            other => return Err(format!("its pickle contains the unknown operation {other:#04x}")),
        }
        Ok(true)
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(format!("its pickle is {} bytes too short", count - self.rest.len())),
        }
    }

    fn number(&mut self) -> Result<u32, String> {
        let mut number = [0; 4];
        number.copy_from_slice(self.bytes(4)?);
        Ok(u32::from_le_bytes(number))
    }

    fn line(&mut self) -> Result<usize, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or("its pickle ends within a line")?;
        Ok(self.bytes(end + 1)?.len())
    }

    fn plain(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes(bytes)?;
        self.push(Size::ONE)
    }

    fn push(&mut self, size: Size) -> Result<(), String> {
        if size.depth > MAX_DEPTH {
            return Err(format!("its pickle nests objects more than {MAX_DEPTH} deep"));
        }
        self.stack.push(Entry::Object(size));
        Ok(())
    }

    fn pop(&mut self) -> Result<Size, String> {
        match self.stack.pop() {
            Some(Entry::Object(size)) => Ok(size),
            // candle accepts a mark as an object, but Python never writes that.
            Some(Entry::Mark) | None => Err("its pickle takes an object from an empty stack".into()),
        }
    }

    fn join(&mut self, count: usize) -> Result<(), String> {
        let parts: Vec<Size> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        self.push(Size::around(parts))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Size>, String> {
        let mut parts = Vec::new();
        loop {
            match self.stack.pop() {
                Some(Entry::Object(size)) => parts.push(size),
                Some(Entry::Mark) => return Ok(parts),
                None => return Err("its pickle refers to a missing mark".into()),
            }
        }
    }

    /// Both storing and loading copy the object.
    fn copy(&mut self, size: Size) -> Result<(), String> {
        let left = self.copies_left.checked_sub(size.objects);
        self.copies_left = left.ok_or("its pickle expands to far more than its size")?;
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<(), String> {
        let Some(&Entry::Object(size)) = self.stack.last() else {
            return Err("its pickle stores an object from an empty stack".into());
        };
        self.copy(size)?;
        self.memo.insert(key, size);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<(), String> {
        let size = *self.memo.get(&key).ok_or("its pickle refers to a missing object in the memo")?;
        self.copy(size)?;
        self.push(size)
    }
}

#[cfg(test)]
mod tests;
