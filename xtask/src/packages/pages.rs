//! Manual pages, from the definitions of the programs and of their files.

use std::fs;
use std::path::Path;
use std::process::Command;

use cascade_policy::{KeyDoc, manual, reference_bridge, reference_config, reference_policy};
use clap::CommandFactory;

use super::Build;
use super::contents::Package;
use super::tree;
use crate::process;

/// The command line of the daemon, which is a program and no library: its definition is compiled in
/// here a second time.
#[path = "../../../crates/cascaded/src/args.rs"]
#[allow(dead_code, reason = "only the definition is of interest here")]
mod cascaded_args;

/// The same of the bridge.
#[path = "../../../crates/kmip2pkcs11/src/args.rs"]
#[allow(dead_code, reason = "only the definition is of interest here")]
mod bridge_args;

/// (section, file name, text) of each page of the package.
pub fn of(build: &Build, package: &Package) -> Result<Vec<(u8, String, Vec<u8>)>, String> {
    let mut pages = Vec::new();
    if package.name == "cascade" {
        commands(build, &mut pages)?;
        pages.push((1, "cascaded.1".into(), cascaded()?));
        pages.push((5, "cascaded-config.toml.5".into(), config_page()));
        pages.push((5, "cascaded-policy.toml.5".into(), policy_page()));
    } else {
        pages.push((1, "kmip2pkcs11.1".into(), bridge()?));
        pages.push((5, "kmip2pkcs11-config.toml.5".into(), bridge_page()));
    }
    Ok(pages)
}

/// `cascade` writes its own, one for each command.
fn commands(build: &Build, pages: &mut Vec<(u8, String, Vec<u8>)>) -> Result<(), String> {
    let folder = build.out.join("man");
    tree::make_dir(&folder)?;
    process::output(
        Command::new(build.programs.join("cascade"))
            .args(["man", "--dir"])
            .arg(&folder),
    )?;
    for name in files_below(&folder, "1")? {
        let text = tree::read(&folder.join(&name))?;
        pages.push((1, name, text));
    }
    Ok(())
}

fn cascaded() -> Result<Vec<u8>, String> {
    let command = cascaded_args::Args::command();
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .section("1")
        .render(&mut text)
        .map_err(|e| format!("the page of cascaded: {e}"))?;
    text.extend_from_slice(CASCADED_MORE.as_bytes());
    Ok(text)
}

fn bridge() -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(bridge_args::Args::command())
        .section("1")
        .render(&mut text)
        .map_err(|e| format!("the page of kmip2pkcs11: {e}"))?;
    text.extend_from_slice(BRIDGE_MORE.as_bytes());
    Ok(text)
}

const BRIDGE_MORE: &str = "\
.SH SIGNALS
.TP
.B SIGHUP
Reopens log files and reads the files of TLS again.
.TP
.BR SIGTERM , \" SIGINT\"
Lets running calls finish, gives the module up, and ends.
.SH FILES
.TP
.I /etc/kmip2pkcs11/config.toml
.TP
.I /var/lib/kmip2pkcs11
The self-signed certificate and its key.
.SH \"SEE ALSO\"
.BR kmip2pkcs11\\-config.toml (5),
.BR cascade\\-hsm (1)
";

const CASCADED_MORE: &str = "\
.SH SIGNALS
.TP
.B SIGHUP
Reopens log files, reads the configuration again and takes over the keys that can be. Policies are
not reloaded: see
.BR cascade\\-policy\\-reload (1).
.TP
.B SIGUSR2
Reopens log files and nothing else.
.TP
.BR SIGTERM , \" SIGINT\"
Ends the daemon. A second one ends it at once; what was acknowledged is not lost either way.
.SH \"EXIT STATUS\"
.TP
.B 0
Stopped on request, or the configuration is good.
.TP
.B 1
The start failed, or the configuration has errors.
.TP
.B 2
Wrong usage.
.TP
.B 3
A fatal error of storage. Nothing that was acknowledged is lost.
.SH FILES
.TP
.I /etc/cascade/config.toml
.TP
.I /etc/cascade/policies/*.toml
.TP
.I /var/lib/cascade
State, zones and keys.
.TP
.I /run/cascade/control.sock
The control socket.
.SH \"SEE ALSO\"
.BR cascade (1),
.BR cascaded\\-config.toml (5),
.BR cascaded\\-policy.toml (5)
";

fn config_page() -> Vec<u8> {
    page(
        "cascaded-config.toml",
        "configuration of cascaded",
        "/etc/cascade/config.toml",
        "Only the line \"version\" is needed. The template with every key and its reason is printed by \
         \"cascade template config\"; \"cascaded --check-config\" checks a file. Unknown keys are errors.",
        &reference_config(),
    )
}

fn policy_page() -> Vec<u8> {
    page(
        "cascaded-policy.toml",
        "policy of zones signed by cascaded",
        "/etc/cascade/policies/<name>.toml",
        "A zone uses a policy by the name of its file without \".toml\". Files take effect with \
         \"cascade policy reload\". The template with every key and its reason is printed by \
         \"cascade template policy\"; \"cascade policy check\" checks a file. Unknown keys are errors.",
        &reference_policy(),
    )
}

fn bridge_page() -> Vec<u8> {
    page(
        "kmip2pkcs11-config.toml",
        "configuration of kmip2pkcs11",
        "/etc/kmip2pkcs11/config.toml",
        "Only the line \"lib_path\" is needed. \"kmip2pkcs11 --check-config\" checks a file and lists what \
         the module offers. Unknown keys are errors.",
        &reference_bridge(),
    )
}

fn page(name: &str, what: &str, file: &str, about: &str, keys: &[KeyDoc]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let escaped = name.replace('-', "\\-");
    format!(
        ".TH {name} 5 \"\" \"Cascade {version}\" \"Cascade\"\n.SH NAME\n{escaped} \\- {what}\n\
         .SH SYNOPSIS\n.I {}\n.SH DESCRIPTION\n{}\n.P\n\
         Durations are seconds or sums such as \"1h30m\" of the units w, d, h, m, s; sizes are octets \
         or for example \"64KiB\".\n.SH KEYS\n{}.SH \"SEE ALSO\"\n.BR cascaded (1),\n.BR cascade (1),\n.BR kmip2pkcs11 (1)\n",
        file.replace('-', "\\-"),
        about.replace('-', "\\-"),
        manual(keys)
    )
    .into_bytes()
}

/// Names of the files in a folder with this ending, sorted; none when there is no folder.
pub fn files_below(folder: &Path, ending: &str) -> Result<Vec<String>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let error = |e| format!("{}: {e}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let name = entry
            .map_err(error)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if Path::new(&name).extension().is_some_and(|e| e == ending) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_name_and_every_key() {
        let text = String::from_utf8(policy_page()).expect("text");
        assert!(
            text.contains(".SH NAME\ncascaded\\-policy.toml \\- policy"),
            "{text}"
        );
        for key in reference_policy() {
            let line = format!(".B {}\n", key.key.replace('-', "\\-"));
            assert!(text.contains(&line), "{}", key.key);
        }
        let text = String::from_utf8(cascaded().expect("page")).expect("text");
        assert!(text.contains("check\\-config") && text.contains("SIGUSR2"));
    }
}
