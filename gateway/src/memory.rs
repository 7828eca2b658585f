//! How much memory there is, for this machine and this container. `None` where the kernel does not say.

/// Bytes of the machine, or what the container allows.
pub(crate) fn total() -> Option<u64> {
    Some(limit().unwrap_or(u64::MAX).min(meminfo("MemTotal")?))
}

/// Bytes that can be taken now: of the machine, and of the container this runs in.
pub(crate) fn available() -> Option<u64> {
    let machine = meminfo("MemAvailable")?;
    let own = limit().zip(number("/sys/fs/cgroup/memory.current")).map(|(most, now)| most.saturating_sub(now));
    Some(own.map_or(machine, |own| own.min(machine)))
}

/// What the container allows, if it sets a limit.
fn limit() -> Option<u64> {
    number("/sys/fs/cgroup/memory.max")
}

fn number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn meminfo(name: &str) -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&info, name)
}

fn kilobytes(info: &str, name: &str) -> Option<u64> {
    field(info, name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The value of the first `name : value` line.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let info = "MemTotal:       24689580 kB\nMemAvailable:   123 kB\nmodel name\t: A CPU: fast\n";
        assert_eq!(kilobytes(info, "MemAvailable"), Some(123 * 1024));
        assert_eq!(kilobytes(info, "MemFree"), None);
        assert_eq!(field(info, "model name"), Some("A CPU: fast"));
    }
}
