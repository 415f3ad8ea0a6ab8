//! System calls by their numbers on this architecture, and the offsets of their numbers and
//! arguments in the kernel's structs.

use whalewatch_trackers_common::{SYSCALLS, SyscallOffsets};

use crate::{Kernel, LoadError};

/// The offsets of a system call's number and arguments at its return.
pub(crate) fn offsets(kernel: &Kernel) -> Result<SyscallOffsets, LoadError> {
    let of = |of: &str, path: &str| kernel.btf().offset(of, path).map_err(LoadError::from);
    #[cfg(target_arch = "x86_64")]
    {
        const ARGUMENTS: [&str; 6] = ["di", "si", "dx", "r10", "r8", "r9"];
        const TS_COMPAT: u32 = 2;
        let mut arguments = [0; 6];
        for (offset, register) in arguments.iter_mut().zip(ARGUMENTS) {
            *offset = of("pt_regs", register)?;
        }
        Ok(SyscallOffsets {
            number: of("pt_regs", "orig_ax")?,
            arguments,
            compat_word: of("task_struct", "thread_info.status")?,
            compat_bit: TS_COMPAT,
        })
    }
    #[cfg(target_arch = "aarch64")]
    {
        const TIF_32BIT: u32 = 1 << 22;
        let registers = of("pt_regs", "regs")?;
        let mut arguments = [0; 6];
        for (offset, number) in arguments.iter_mut().zip(0..) {
            *offset = registers + 8 * number;
        }
        // At the return the first register holds the result.
        arguments[0] = of("pt_regs", "orig_x0")?;
        Ok(SyscallOffsets {
            number: of("pt_regs", "syscallno")?,
            arguments,
            compat_word: of("task_struct", "thread_info.flags")?,
            compat_bit: TIF_32BIT,
        })
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    compile_error!("whalewatch knows the system calls of x86-64 and aarch64 only");
}

/// Builds the table by which programs look up system calls: for each number, the index of its
/// description in a list, from 1 on.
///
/// Calls whose number does not fit are left out; no architecture has any.
pub(crate) fn table<T: Copy, const N: usize>(
    calls: impl IntoIterator<Item = (libc::c_long, T)>,
    none: T,
) -> ([u8; SYSCALLS], [T; N]) {
    let (mut actions, mut list) = ([0; SYSCALLS], [none; N]);
    for (place, (number, call)) in (1_u8..).zip(calls) {
        let action = usize::try_from(number).ok().and_then(|number| actions.get_mut(number));
        let entry = list.get_mut(usize::from(place));
        debug_assert!(action.is_some() && entry.is_some(), "call {number} does not fit");
        if let (Some(action), Some(entry)) = (action, entry) {
            *action = place;
            *entry = call;
        }
    }
    (actions, list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_own_index() {
        let calls = [(libc::SYS_openat, 'o'), (libc::SYS_close, 'c')];
        let (actions, list) = table::<_, 4>(calls, ' ');
        assert_eq!(list, [' ', 'o', 'c', ' ']);
        assert_eq!(actions[libc::SYS_openat as usize], 1);
        assert_eq!(actions[libc::SYS_close as usize], 2);
        assert_eq!(actions.iter().filter(|&&action| action != 0).count(), 2);
    }
}
