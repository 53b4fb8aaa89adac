//! Memory that the threads of an op write together.

/// Memory that several threads write, each its own part.
pub(super) struct Shared<T>(*mut T);

// SAFETY: users of the pointer guarantee that the parts do not overlap.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr())
    }

    pub fn of(place: *mut T) -> Self {
        Self(place)
    }

    pub fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

    /// # Safety
    /// The part must be inside the memory, and no one else may access it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, first: usize, count: usize) -> &mut [T] {
        unsafe { std::slice::from_raw_parts_mut(self.at(first), count) }
    }
}
