//! What the sandboxes of a unit consist of, property by property, each with its reason.
//!
//! Deliberately absent: what a recipe adds or takes back (`[unit]`), and the process adapter, which has no sandbox.

use crate::unit::{Sandbox, UnitValue};

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// Switched on.
    On,
    /// A word.
    Word(&'static str),
    /// A list of one word.
    Words(&'static str),
}

/// One property of the standard sandbox.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, in unit files and on the bus.
    pub name: &'static str,
    /// Its value.
    pub value: Fixed,
    /// Whether a user's own manager can do it too. It cannot make mount namespaces without giving away the user's IDs.
    pub by_user_manager: bool,
    /// What it takes away.
    pub takes: &'static str,
    /// Who misses it.
    pub misses: &'static str,
}

const fn row(name: &'static str, value: Fixed, by_user: bool, takes: &'static str, misses: &'static str) -> Row {
    Row { name, value, by_user_manager: by_user, takes, misses }
}

/// The standard sandbox.
pub const STANDARD: &[Row] = &[
    row("NoNewPrivileges", Fixed::On, true, "gaining rights by a set-user-ID program", "`sudo` and `su` inside an app"),
    row(
        "ProtectSystem",
        Fixed::Word("full"),
        false,
        "writing to `/usr`, `/boot`, `/efi` and `/etc`",
        "apps that update themselves in `/usr`",
    ),
    row(
        "ProtectHome",
        Fixed::Word("read-only"),
        false,
        "writing below `/home`, `/root` and `/run/user`",
        "apps installed in a home directory that write there: `ProtectHome = false`",
    ),
    row(
        "PrivateTmp",
        Fixed::On,
        false,
        "seeing the `/tmp` of others; its own is emptied when it stops",
        "apps that meet others by a file in `/tmp`",
    ),
    row(
        "PrivateDevices",
        Fixed::On,
        false,
        "devices but `/dev/null`, `/dev/random` and the like",
        "apps that need a GPU, a camera or a serial port: `PrivateDevices = false`",
    ),
    row(
        "ProtectProc",
        Fixed::Word("invisible"),
        false,
        "seeing processes of other users in `/proc`",
        "monitors of the whole host",
    ),
    row("ProtectKernelTunables", Fixed::On, false, "writing to `/proc/sys` and `/sys`", "tools that tune the host"),
    row("ProtectKernelModules", Fixed::On, false, "loading kernel modules", "nobody"),
    row("ProtectKernelLogs", Fixed::On, false, "reading the kernel's log", "monitors of the host"),
    row("ProtectControlGroups", Fixed::On, false, "changing control groups", "container managers"),
    row("ProtectClock", Fixed::On, false, "setting the clock", "time servers"),
    row("ProtectHostname", Fixed::On, false, "changing the host's name", "nobody"),
    row("RestrictSUIDSGID", Fixed::On, true, "making set-user-ID files", "package managers"),
    row("RestrictRealtime", Fixed::On, true, "real-time scheduling", "audio and telephony servers"),
    row("LockPersonality", Fixed::On, true, "other ABIs of the kernel", "emulators of old Unixes"),
    row("SystemCallArchitectures", Fixed::Words("native"), true, "32-bit system calls", "32-bit programs"),
    row("KeyringMode", Fixed::Word("private"), false, "the kernel keyring of its user", "nobody"),
];

impl Fixed {
    /// As a line of a unit file has it.
    pub fn shown(self) -> &'static str {
        match self {
            Self::On => "yes",
            Self::Word(word) | Self::Words(word) => word,
        }
    }
}

/// A property of a sandbox with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name on the bus.
    pub property: &'static str,
    /// Its value.
    pub value: UnitValue,
}

/// The properties of a sandbox. `system`: under the system's manager. `dynamic`: as a user of systemd's making.
pub fn of(sandbox: Sandbox, system: bool, dynamic: bool) -> Vec<Property> {
    let rows = match sandbox {
        Sandbox::None => &[],
        Sandbox::Standard => STANDARD,
    };
    let rows = rows.iter().filter(|row| system || row.by_user_manager);
    let property = |row: &Row| Property {
        property: row.name,
        value: match row.value {
            // A user that may be another one tomorrow must leave no files behind.
            Fixed::Word(_) if row.name == "ProtectSystem" && dynamic => UnitValue::Text("strict".into()),
            Fixed::On => UnitValue::Bool(true),
            Fixed::Word(word) => UnitValue::Text(word.into()),
            Fixed::Words(word) => UnitValue::Texts(vec![word.into()]),
        },
    };
    rows.map(property).collect()
}
