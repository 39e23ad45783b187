//! File names of programs that a node does not have.
//!
//! A name is only the first net: an executable that the manifest does not give by its
//! full name is a finding whatever it is called.

use super::Rule;

const SHELLS: &[&str] = &[
    "ash",
    "bash",
    "busybox",
    "csh",
    "dash",
    "elvish",
    "fish",
    "ksh",
    "ksh93",
    "mksh",
    "nu",
    "oksh",
    "pwsh",
    "rbash",
    "rc",
    "sash",
    "screen",
    "sh",
    "sulogin",
    "systemd-sulogin-shell",
    "tcsh",
    "tmux",
    "toybox",
    "xonsh",
    "yash",
    "zsh",
];

const INTERPRETERS: &[&str] = &[
    "awk",
    "bpftrace",
    "deno",
    "ed",
    "expect",
    "gawk",
    "gdb",
    "guile",
    "java",
    "jimsh",
    "jq",
    "lua",
    "luajit",
    "m4",
    "mawk",
    "nawk",
    "node",
    "nodejs",
    "original-awk",
    "perl",
    "php",
    "python",
    "qjs",
    "ruby",
    "sed",
    "tclsh",
    "vi",
    "vim",
    "wish",
];

const PACKAGE_MANAGERS: &[&str] = &[
    "apk",
    "apt",
    "apt-get",
    "apt-cache",
    "aptitude",
    "brew",
    "cargo",
    "conda",
    "dnf",
    "dpkg",
    "dpkg-deb",
    "emerge",
    "flatpak",
    "gem",
    "guix",
    "nix",
    "npm",
    "opkg",
    "pacman",
    "pip",
    "pip3",
    "rpm",
    "snap",
    "swupd",
    "xbps-install",
    "yum",
    "zypper",
];

const LOGIN_SERVERS: &[&str] = &[
    "agetty",
    "dropbear",
    "getty",
    "in.telnetd",
    "login",
    "mingetty",
    "rlogind",
    "rshd",
    "sshd",
    "sshd-session",
    "su",
    "sudo",
    "telnetd",
    "tinysshd",
];

/// The rule that a file of this name breaks.
pub fn forbidden(name: &str) -> Option<Rule> {
    // python3.13 and lua5.4 are python and lua.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let any = |list: &[&str]| list.contains(&name) || list.contains(&bare);
    if any(SHELLS) {
        Some(Rule::Shell)
    } else if any(INTERPRETERS) {
        Some(Rule::Interpreter)
    } else if any(PACKAGE_MANAGERS) {
        Some(Rule::PackageManager)
    } else if any(LOGIN_SERVERS) {
        Some(Rule::LoginServer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_hide_a_name() {
        assert_eq!(forbidden("python3.13"), Some(Rule::Interpreter));
        assert_eq!(forbidden("bash"), Some(Rule::Shell));
        assert_eq!(forbidden("sshd"), Some(Rule::LoginServer));
        assert_eq!(forbidden("kubelet"), None);
        assert_eq!(forbidden("mke2fs"), None);
    }
}
