//! What two states must have in common to be one: moments count from now, versions by the order in which they are met.
//!
//! Nothing of the machine is told which of its numbers are moments. The model's clock begins at [`EPOCH`], which no span
//! and no counter reaches, so a `u64` beyond half of it is a moment wherever it is kept, in a field of today or of
//! tomorrow. That the machine never mixes the two is tested: one story begun at two different times passes through the
//! same states.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};

/// When every process's clock begins, in milliseconds.
pub(crate) const EPOCH: u64 = 1 << 40;
/// Moments are at least this.
const MOMENTS: u64 = EPOCH / 2;
/// What the versions that the model's API server gives begin with.
pub(crate) const VERSION: u8 = 0x01;

/// Versions by the order in which they were met.
#[derive(Default)]
pub(crate) struct Names(RefCell<Vec<Vec<u8>>>);

impl Names {
    fn rank(&self, name: &[u8]) -> u64 {
        let mut known = self.0.borrow_mut();
        let rank = known.iter().position(|of| of == name).unwrap_or_else(|| {
            known.push(name.to_vec());
            known.len() - 1
        });
        rank as u64
    }
}

/// A hasher to which what is alike save for when it happens is the same.
pub(crate) struct Relative<'a, H> {
    pub(crate) inner: &'a mut H,
    pub(crate) now: u64,
    pub(crate) names: &'a Names,
}

impl<H: Hasher> Hasher for Relative<'_, H> {
    fn finish(&self) -> u64 {
        self.inner.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        match bytes.first() {
            Some(&VERSION) => self.inner.write_u64(self.names.rank(bytes)),
            _ => self.inner.write(bytes),
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.inner.write_u8(n);
    }

    fn write_u32(&mut self, n: u32) {
        self.inner.write_u32(n);
    }

    fn write_u64(&mut self, n: u64) {
        self.inner.write_u64(if n >= MOMENTS { n.wrapping_sub(self.now) } else { n });
    }

    fn write_usize(&mut self, n: usize) {
        self.inner.write_usize(n);
    }

    fn write_isize(&mut self, n: isize) {
        self.inner.write_isize(n);
    }
}

/// A hasher that sees only what stands, not when or how often: no moment, span, count or version.
pub(crate) struct Shape<H>(pub(crate) H);

impl<H: Hasher> Hasher for Shape<H> {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.first() != Some(&VERSION) {
            self.0.write(bytes);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.0.write_u8(n);
    }

    fn write_u32(&mut self, _: u32) {}

    fn write_u64(&mut self, _: u64) {}

    fn write_usize(&mut self, _: usize) {}

    fn write_isize(&mut self, n: isize) {
        self.0.write_isize(n);
    }
}

/// A number for a state, the same for those that are one.
pub(crate) fn fingerprint(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Hashes `what` so that moments count from `now`.
pub(crate) fn relative<H: Hasher>(what: &impl Hash, now: u64, names: &Names, inner: &mut H) {
    what.hash(&mut Relative { inner, now, names });
}
