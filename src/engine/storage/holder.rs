//! Finds the process that has a file open, from Linux's `/proc/locks`. On other systems it finds none.

use std::path::Path;

/// Describes the process that has locked the file. Returns `None` if the system does not report it.
#[cfg(target_os = "linux")]
pub(crate) fn holder_of(path: &Path) -> Option<String> {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    let file = fs::metadata(path).ok()?;
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let pid = pid_in(&fs::read_to_string("/proc/locks").ok()?, device, file.ino())?;
    if pid == std::process::id() {
        return Some("in this process".to_owned());
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // Another program chose the name, and it may be printed to a terminal.
    let name: String = name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some(if name.is_empty() { format!("in process {pid}") } else { format!("in process {pid} ({name})") })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder_of(_path: &Path) -> Option<String> {
    None
}

/// Returns the id of the process that holds a lock on a file, from the lines of `/proc/locks`. Locks that
/// belong to open file descriptions have no process (-1), and neither have locks of processes that this
/// process may not see (0).
#[cfg(target_os = "linux")]
fn pid_in(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let (major, minor) = device;
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // The line of a waiting lock has an additional field, `->`.
        let [_, "FLOCK" | "POSIX", _, _, pid, of, ..] = fields.as_slice() else { return None };
        (*of == file).then(|| pid.parse().ok()).flatten().filter(|pid| *pid > 0)
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_the_process_with_a_lock_of_that_file() {
        let locks = "\
1: OFDLCK ADVISORY  WRITE -1 fe:10:123 128 128
2: FLOCK  ADVISORY  WRITE 4711 08:01:123 0 EOF
2: -> FLOCK  ADVISORY  WRITE 4712 fe:10:123 0 EOF
3: FLOCK  ADVISORY  WRITE 0 fe:10:123 0 EOF
4: FLOCK  ADVISORY  READ 815 fe:10:123 0 EOF
5: POSIX  ADVISORY  WRITE 7 fe:10:1234 0 EOF
";
        assert_eq!(pid_in(locks, (0xfe, 0x10), 123), Some(815));
        assert_eq!(pid_in(locks, (8, 1), 123), Some(4711));
        assert_eq!(pid_in(locks, (8, 1), 12), None);
        assert_eq!(pid_in("", (8, 1), 123), None);
    }
}
