//! The system calls that neither the standard library nor a safe crate the agent could use offers.
//!
//! The agent is compiled with the standard library alone, which links the C library in any case.

#![allow(
    unsafe_code,
    reason = "C functions without a safe face in std, and two of std; see each block"
)]

use std::ffi::{c_int, c_long, c_short, c_ulong};
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) const SIGKILL: c_int = 9;
pub(super) const SIGTERM: c_int = 15;

const POLLIN: c_short = 1;
const WNOHANG: c_int = 1;
const WEXITED: c_int = 4;
const WNOWAIT: c_int = 0x0100_0000;
const P_ALL: c_int = 0;

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

/// Room for a `siginfo_t`, which Linux fixes at 128 bytes; nothing is read from it.
#[repr(C)]
struct SigInfo([c_long; 16]);

/// `close_range` and its flag; the number is the same on every architecture.
const SYS_CLOSE_RANGE: c_long = 436;
const CLOSE_RANGE_CLOEXEC: c_long = 4;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn prctl(option: c_int, ...) -> c_int;
    #[link_name = "kill"]
    fn c_kill(pid: c_int, signal: c_int) -> c_int;
    #[link_name = "poll"]
    fn c_poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    #[link_name = "fork"]
    fn c_fork() -> c_int;
    #[link_name = "ioctl"]
    fn c_ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn waitid(kind: c_int, id: c_int, info: *mut SigInfo, options: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

/// Marks every descriptor from `first` on to be closed when another program is started.
pub(super) fn close_on_exec_from(first: i32) {
    // SAFETY: takes integers only; it marks descriptors, and closes none of this process.
    unsafe {
        syscall(SYS_CLOSE_RANGE, c_long::from(first), c_long::from(i32::MAX), CLOSE_RANGE_CLOEXEC)
    };
}

/// `PR_SET_SECCOMP`, its mode, and what it reads: a `struct sock_fprog`.
const SET_SECCOMP: c_int = 22;
const MODE_FILTER: c_ulong = 2;
#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: *const u64,
}

/// Has the kernel filter the calls of this process, which must have one thread and be unable to get
/// privileges, and of all it will start, by a program of `struct sock_filter`s.
pub(crate) fn filter_calls(program: &[u64]) -> std::io::Result<()> {
    // One that is too long is refused, as one without instructions is.
    let length = u16::try_from(program.len()).unwrap_or_default();
    let program = FilterProgram { length, instructions: program.as_ptr() };
    // SAFETY: the kernel reads as many instructions of eight bytes as there are.
    let done = unsafe { prctl(SET_SECCOMP, MODE_FILTER, &raw const program) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `mount_setattr`, of the same number everywhere, what it reads, and the flags used.
const SYS_MOUNT_SETATTR: c_long = 442;
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}
const READ_ONLY: u64 = 1;
const NO_SETUID: u64 = 2;
const NO_DEVICES: u64 = 4;
const OF_THE_DESCRIPTOR: c_long = 0x1000;
const WITH_ALL_BELOW: c_long = 0x8000;

/// Makes the mount that `tree` is the root of read-only, with everything that is mounted below it.
///
/// # Errors
/// Before Linux 5.12, which first had this.
#[allow(dead_code, reason = "engines mount for the static agent")]
pub(crate) fn seal(tree: BorrowedFd<'_>) -> std::io::Result<()> {
    let set = READ_ONLY | NO_SETUID | NO_DEVICES;
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is an empty text with its end, the attributes a live `struct mount_attr` of
    // the size told; nothing is written.
    let done = unsafe {
        syscall(
            SYS_MOUNT_SETATTR,
            c_long::from(tree.as_raw_fd()),
            c"".as_ptr(),
            OF_THE_DESCRIPTOR | WITH_ALL_BELOW,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Whether the kernel can [`seal`].
#[allow(dead_code, reason = "engines mount for the static agent")]
pub(crate) fn can_seal() -> bool {
    let (nothing, none) = (-1 as c_long, 0 as c_long);
    // SAFETY: there is no such descriptor, which is told before anything else is looked at.
    let done =
        unsafe { syscall(SYS_MOUNT_SETATTR, nothing, c"".as_ptr(), OF_THE_DESCRIPTOR, none, none) };
    done == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Unsupported
}

/// `SIOCDELRT`, and what it reads: a `struct rtentry`, which is no longer than this.
const DELETE_ROUTE: c_ulong = 0x890c;
#[repr(C)]
struct Route {
    pad: c_ulong,
    destination: [u16; 8],
    gateway: [u16; 8],
    mask: [u16; 8],
    flags: u16,
    rest: [c_ulong; 10],
}

/// Removes the route to everywhere, if there is one and this process may.
pub(super) fn remove_default_route() -> bool {
    const IPV4: u16 = 2;
    const UP: u16 = 1;
    let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0") else { return false };
    let mut any = [0; 8];
    any[0] = IPV4;
    let route =
        Route { pad: 0, destination: any, gateway: [0; 8], mask: any, flags: UP, rest: [0; 10] };
    // SAFETY: the kernel reads a `struct rtentry` there, of which all that follows the flags is zero.
    unsafe { c_ioctl(socket.as_raw_fd(), DELETE_ROUTE, &raw const route) == 0 }
}

/// Goes on twice: gives the process id of the child, which itself gets `None`.
///
/// Only for a process with one thread: a child has no other, whatever they were about to do.
#[allow(dead_code, reason = "the static agent is process 1 from the beginning")]
pub(crate) fn fork() -> std::io::Result<Option<i32>> {
    // SAFETY: takes nothing; with one thread, no lock is held by somebody who is not there.
    match unsafe { c_fork() } {
        0 => Ok(None),
        child if child > 0 => Ok(Some(child)),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Waits for the end of a child; gives its wait status.
#[allow(dead_code, reason = "the static agent is process 1 from the beginning")]
pub(crate) fn wait_for(child: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is a live integer that the call may write.
    let pid = unsafe { waitpid(child, &mut status, 0) };
    (pid == child).then_some(status)
}

/// Gives this process, which must have one thread, these variables and no others.
#[allow(dead_code, reason = "the static agent has them from its engine")]
pub(crate) fn set_environment<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, _) in std::env::vars_os() {
        // SAFETY: with one thread nobody reads them meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: with one thread nobody reads them meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Sends a signal to a process, a group (negative) or, from process 1, to all others (-1).
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: takes two integers; a process that is gone is an error it returns.
    unsafe { c_kill(pid, signal) };
}

/// Which of three descriptors can be read or have ended; negative ones never do.
pub(super) fn poll(fds: [i32; 3], wait: bool) -> [bool; 3] {
    let mut polled = fds.map(|fd| PollFd { fd, events: POLLIN, revents: 0 });
    let timeout = if wait { -1 } else { 0 };
    // SAFETY: the pointer and the count describe a live array of `struct pollfd`.
    let ready = unsafe { c_poll(polled.as_mut_ptr(), polled.len() as c_ulong, timeout) };
    if ready <= 0 { [false; 3] } else { polled.map(|polled| polled.revents != 0) }
}

/// Blocks until some child has ended, without collecting it; false when there is no child.
pub(super) fn wait_for_any() -> bool {
    let mut info = SigInfo([0; 16]);
    // SAFETY: `info` is as large as the `siginfo_t` the kernel fills in.
    unsafe { waitid(P_ALL, 0, &mut info, WEXITED | WNOWAIT) == 0 }
}

/// Returns true while this process has a child that runs or has not been reaped.
pub(super) fn has_children() -> bool {
    let mut info = SigInfo([0; 16]);
    // SAFETY: `info` is as large as the `siginfo_t` the kernel fills in.
    unsafe { waitid(P_ALL, 0, &mut info, WEXITED | WNOWAIT | WNOHANG) == 0 }
}

/// Collects one child that has ended: its process id and wait status.
pub(super) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a live integer that the call may write.
    let pid = unsafe { waitpid(-1, &mut status, WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// The exit code in a wait status, or else the signal.
pub(crate) fn ended(status: i32) -> Result<i32, i32> {
    let signal = status & 0x7f;
    if signal == 0 { Ok((status >> 8) & 0xff) } else { Err(signal) }
}
