//! Pages for secrets, and a stack made of them. The only `unsafe` of Sealwire.
#![allow(unsafe_code, reason = "mapping, locking and switching stacks have no safe form")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use zeroize::Zeroize;

use super::Protection;

/// Bytes of a page on every machine that we build for.
pub(super) const PAGE: usize = 4096;

/// A mapping of whole pages between two that nothing may touch.
pub(super) struct Pages {
    /// The first usable byte.
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, and is reached through `&self` and `&mut self`
// like any other memory.
unsafe impl Send for Pages {}
// SAFETY: as above; `&self` gives shared slices only.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `length` bytes, a multiple of [`PAGE`], all zeros.
    ///
    /// # Errors
    /// What the operating system says: most often that no more memory may be locked.
    pub(super) fn map(length: usize, protection: Protection) -> io::Result<Self> {
        assert!(length > 0 && length.is_multiple_of(PAGE), "whole pages");
        let whole = length + 2 * PAGE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let anywhere = std::ptr::null_mut();
        let base = if protection == Protection::MemfdSecret {
            let file = memfd_secret()?;
            rustix::fs::ftruncate(&file, whole as u64)?;
            // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists. The
            // descriptor is closed at the end of this block; the mapping stays.
            unsafe { mm::mmap(anywhere, whole, access, MapFlags::SHARED, file.as_fd(), 0) }?
        } else {
            // SAFETY: as above.
            unsafe { mm::mmap_anonymous(anywhere, whole, access, MapFlags::PRIVATE) }?
        };
        // SAFETY: the mapping above has `whole` bytes, more than a page.
        let start = unsafe { base.byte_add(PAGE) };
        let start = NonNull::new(start.cast()).expect("mmap gives no null");
        // From here on, dropping unmaps.
        let pages = Self { start, length };
        pages.protect(protection)?;
        Ok(pages)
    }

    /// Shuts the two outer pages, and protects those between as `protection` says.
    fn protect(&self, protection: Protection) -> io::Result<()> {
        let (address, length) = (self.start.as_ptr().cast::<c_void>(), self.length);
        // SAFETY: both lie within our own mapping, which nobody has a reference into yet.
        unsafe {
            mm::mprotect(address.byte_sub(PAGE), PAGE, MprotectFlags::empty())?;
            mm::mprotect(address.byte_add(length), PAGE, MprotectFlags::empty())?;
        }
        if protection == Protection::Mlock {
            // SAFETY: the range is our own mapping. Locking changes no byte of it.
            unsafe { mm::mlock(address, length) }?;
        }
        if protection != Protection::Unprotected {
            for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
                // SAFETY: the range is our own mapping; neither advice changes a byte of it here.
                unsafe { mm::madvise(address, length, advice) }?;
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `length` readable bytes from `start` are mapped as long as `self` lives, were
        // initialised by the kernel, and change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `start` lies a page behind the beginning of a mapping of `length` and two pages, made
        // in `map`; it belongs to this value alone. The kernel zeroes pages before it gives them away.
        unsafe {
            let base = self.start.as_ptr().byte_sub(PAGE).cast::<c_void>();
            let _ = mm::munmap(base, self.length + 2 * PAGE);
        }
    }
}

/// A descriptor of secret memory: its pages leave the kernel's own map, so that not even the kernel
/// reads them for another process. Linux 5.14 and newer.
fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: the call takes one integer and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let descriptor = i32::try_from(descriptor).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A stack made of [`Pages`]: what a computation leaves on it lies nowhere else.
pub(super) struct Stack(Pages);

impl Stack {
    pub(super) fn map(length: usize, protection: Protection) -> io::Result<Self> {
        Pages::map(length, protection).map(Self)
    }

    /// Runs `work` on this stack, and wipes it afterwards, also when `work` panics.
    pub(super) fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let stack = self.0.bytes_mut();
        let (base, length) = (stack.as_mut_ptr(), stack.len());
        // A panic must not cross the switch, so it is caught on this side and goes on at the other.
        let work = || catch_unwind(AssertUnwindSafe(work));
        // SAFETY: `base` is the low end of `length` writable bytes, both multiples of the page size, with
        // a page below that nothing may touch. `&mut self` keeps others away until this returns, and the
        // closure returns, as panics are caught in it.
        let done = unsafe { psm::on_stack(base, length, work) };
        self.0.bytes_mut().zeroize();
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_stack_and_leaves_nothing_there() {
        let mut stack = Stack::map(16 * PAGE, Protection::Mlock).expect("mapped");
        let range = stack.0.bytes().as_ptr_range();
        let (inside, sum) = stack.run(|| {
            let local = std::hint::black_box([0xA5_u8; 512]);
            (
                range.contains(&local.as_ptr()),
                local.iter().map(|byte| u32::from(*byte)).sum::<u32>(),
            )
        });
        assert!(inside);
        assert_eq!(sum, 512 * 0xA5);
        assert!(stack.0.bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_panic_goes_on_outside_and_the_stack_is_wiped() {
        let mut stack = Stack::map(32 * PAGE, Protection::Mlock).expect("mapped");
        let caught = catch_unwind(AssertUnwindSafe(|| stack.run(|| panic!("inside"))));
        assert!(caught.is_err());
        assert!(stack.0.bytes().iter().all(|byte| *byte == 0));
        assert_eq!(stack.run(|| 7), 7);
    }
}
