//! Looks through a pickle before it is read: candle's reader believes every length that it finds, and copies
//! whatever is taken from the memo. A damaged or hostile file would have it ask for all memory there is.
//!
//! The same operations are gone through with sizes in place of objects. Knows what operations do to the stack,
//! nothing of what objects mean.

use std::collections::HashMap;

/// More than any checkpoint needs: of one with its optimizer's state it is some hundred kilobytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Objects within objects; deeper ones would use up the thread's stack when they are dropped.
const MAX_DEPTH: u32 = 256;

/// Objects that may be copied for each byte of the pickle, and some for a short one.
const COPIES_PER_BYTE: u64 = 8;
const COPIES: u64 = 100_000;

/// What an object would be.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Objects that it consists of.
    objects: u64,
    depth: u32,
}

impl Size {
    const ONE: Self = Self { objects: 1, depth: 1 };

    /// What consists of `parts`.
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
/// Why the pickle cannot be read in a bounded time and memory.
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
    /// One operation. False after the last one.
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
            // LONG1; candle's numbers have eight bytes
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
            // TUPLE, DICT, which candle takes for an empty one
            b't' => {
                let parts = self.to_mark()?;
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
                let mut parts = self.to_mark()?;
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
            other => return Err(format!("its pickle has the operation {other:#04x}, which is unknown")),
        }
        Ok(true)
    }

    fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(format!("its pickle ends {} bytes before its content does", count - self.rest.len())),
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
            return Err(format!("its pickle has objects within objects, more than {MAX_DEPTH} deep"));
        }
        self.stack.push(Entry::Object(size));
        Ok(())
    }

    fn pop(&mut self) -> Result<Size, String> {
        match self.stack.pop() {
            Some(Entry::Object(size)) => Ok(size),
            // candle takes a mark for an object; nothing that Python writes does.
            Some(Entry::Mark) | None => Err("its pickle takes an object that is not there".into()),
        }
    }

    fn join(&mut self, count: usize) -> Result<(), String> {
        let parts: Vec<Size> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        self.push(Size::around(parts))
    }

    fn to_mark(&mut self) -> Result<Vec<Size>, String> {
        let mut parts = Vec::new();
        loop {
            match self.stack.pop() {
                Some(Entry::Object(size)) => parts.push(size),
                Some(Entry::Mark) => return Ok(parts),
                None => return Err("its pickle goes back to a mark that is not there".into()),
            }
        }
    }

    /// Both ways between stack and memo copy.
    fn copy(&mut self, size: Size) -> Result<(), String> {
        let left = self.copies_left.checked_sub(size.objects);
        self.copies_left = left.ok_or("its pickle unfolds to far more than it holds")?;
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<(), String> {
        let Some(&Entry::Object(size)) = self.stack.last() else {
            return Err("its pickle remembers an object that is not there".into());
        };
        self.copy(size)?;
        self.memo.insert(key, size);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<(), String> {
        let size =
            *self.memo.get(&key).ok_or("its pickle takes an object from the memo that is not there")?;
        self.copy(size)?;
        self.push(size)
    }
}

#[cfg(test)]
mod tests;
