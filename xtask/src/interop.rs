//! KMIP against PyKMIP, in both directions: scripts of `integration/interop` in a Python environment
//! below `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{process, tools};

/// The version that the scripts were written against.
const PYKMIP: &str = "pykmip==0.11.0";

/// Number of scripts that passed and failed.
///
/// # Errors
/// A script cannot be started.
pub fn run() -> Result<(usize, usize), String> {
    let Some(python) = provide() else {
        println!("PyKMIP is not installed and cannot be installed from here: nothing was asked.");
        // Where nobody watches, what was left out would never be missed.
        let missed = usize::from(std::env::var_os("CI").is_some());
        return Ok((0, missed));
    };
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), PathBuf::from);
    let bridge = target.join("debug/kmip2pkcs11");
    let scripts: [(&str, Option<&Path>); 2] = [
        ("kmip_pykmip.py", None),
        ("bridge_pykmip.py", Some(&bridge)),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (script, argument) in scripts {
        let mut command = Command::new(&python);
        command
            .arg(crate::root().join("integration/interop").join(script))
            .args(argument);
        match process::tee(&mut command)?.success {
            true => passed += 1,
            false => failed += 1,
        }
    }
    Ok((passed, failed))
}

/// A Python that has PyKMIP, made if need be.
fn provide() -> Option<PathBuf> {
    let venv = crate::root().join("target/interop-venv");
    let python = venv.join("bin/python");
    if has_pykmip(&python) {
        return Some(python);
    }
    let quiet = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let python3 = tools::find("python3")?;
    println!("interop: installing {PYKMIP} into {}", venv.display());
    let made = || {
        quiet(
            Command::new(&python3)
                .args(["-m", "venv", "--clear"])
                .arg(&venv),
        )
    };
    // Debian has it in a package of its own, beside a Python that is there already.
    let made = made() || {
        tools::provide_package("python3-venv");
        made()
    };
    let made =
        made && quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", PYKMIP]));
    (made && has_pykmip(&python)).then_some(python)
}

fn has_pykmip(python: &Path) -> bool {
    Command::new(python)
        .args(["-W", "ignore", "-c", "import kmip"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
