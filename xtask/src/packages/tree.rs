//! A package's files laid out as they will be installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::contents::{File, Package, Source};
use super::{Build, bundled, pages};
use crate::process;

/// A laid-out package.
pub struct Tree {
    /// What becomes `/`.
    pub root: PathBuf,
    /// Where the parts of the programs for debuggers are.
    pub symbols: PathBuf,
    /// Installed paths, sorted.
    pub files: Vec<String>,
    pub folders: Vec<String>,
}

impl Tree {
    pub fn conffiles(&self) -> impl Iterator<Item = &String> {
        self.files.iter().filter(|f| f.starts_with("/etc/"))
    }
}

pub fn lay_out(build: &Build, package: &Package) -> Result<Tree, String> {
    let place = build.out.join(package.name);
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    }
    let mut tree = Tree {
        root: place.join("root"),
        symbols: place.join("symbols"),
        files: Vec::new(),
        folders: package.folders.iter().map(|f| (*f).to_owned()).collect(),
    };
    for folder in &tree.folders {
        make_dir(&inside(&tree.root, folder))?;
    }
    for program in package.programs {
        program_into(build, &mut tree, program)?;
    }
    for file in package.files {
        file_into(build, package, &mut tree, file)?;
    }
    tree.files.sort();
    Ok(tree)
}

fn file_into(build: &Build, package: &Package, tree: &mut Tree, file: &File) -> Result<(), String> {
    let repo = crate::root();
    let text: Vec<u8> = match file.from {
        Source::Repo(path) => read(&repo.join(path))?,
        Source::Folder(path, ending) => {
            for name in pages::files_below(&repo.join(path), ending)? {
                let text = read(&repo.join(path).join(&name))?;
                put(build, tree, &format!("{}/{name}", file.to), text)?;
            }
            return Ok(());
        }
        Source::Prints(program, args) => {
            process::output(Command::new(build.programs.join(program)).args(args))?
        }
        Source::Config => config()?.into_bytes(),
        Source::OpenApi => {
            let mut text = serde_json::to_string_pretty(&cascade_api::openapi::document())
                .map_err(|e| format!("the description of the API: {e}"))?;
            text.push('\n');
            text.into_bytes()
        }
        Source::ManPages => {
            for (section, name, text) in pages::of(build, package)? {
                put(
                    build,
                    tree,
                    &format!("{}/man{section}/{name}.gz", file.to),
                    text,
                )?;
            }
            return Ok(());
        }
        Source::Copyright => bundled::copyright(package)?.into_bytes(),
        Source::Licences => bundled::licences(package)?.into_bytes(),
        Source::Sbom => bundled::sbom(package)?.into_bytes(),
        Source::Changelog => changelog(build, package)?.into_bytes(),
    };
    put(build, tree, file.to, text)
}

/// The packaged configuration: the template, logging to the journal.
pub fn config() -> Result<String, String> {
    let template = cascade_policy::template_config();
    let (from, to) = (
        "\nlog-target = { type = \"stdout\" }\n",
        "\nlog-target = { type = \"journal\" }\n",
    );
    if template.matches(from).count() != 1 {
        return Err("the template of the configuration has no line of the log target".into());
    }
    Ok(template.replace(from, to))
}

fn put(build: &Build, tree: &mut Tree, to: &str, mut text: Vec<u8>) -> Result<(), String> {
    if let Some(note) = &build.conffile_note
        && to.starts_with("/etc/")
        && to.ends_with(".toml")
    {
        text.extend_from_slice(note.as_bytes());
    }
    if to.ends_with(".gz") {
        text = gzip(text)?;
    }
    let path = inside(&tree.root, to);
    if let Some(folder) = path.parent() {
        make_dir(folder)?;
    }
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    mode(&path, 0o644)?;
    tree.files.push(to.to_owned());
    Ok(())
}

/// The program without what only a debugger reads; that goes into a file of its own, by its build
/// id, where debuggers look.
fn program_into(build: &Build, tree: &mut Tree, program: &str) -> Result<(), String> {
    let built = build.programs.join(program);
    let to = format!("/usr/bin/{program}");
    let path = inside(&tree.root, &to);
    if let Some(folder) = path.parent() {
        make_dir(folder)?;
    }
    if build.symbols {
        symbols_into(tree, &built)?;
    }
    objcopy(
        &[
            "--strip-unneeded",
            "--remove-section=.comment",
            "--remove-section=.note",
        ],
        &built,
        &path,
    )?;
    mode(&path, 0o755)?;
    tree.files.push(to);
    Ok(())
}

fn symbols_into(tree: &Tree, built: &Path) -> Result<(), String> {
    let id = build_id(built)?;
    let (head, rest) = id.split_at_checked(2).unwrap_or(("00", "0"));
    let symbols = inside(
        &tree.symbols,
        &format!("/usr/lib/debug/.build-id/{head}/{rest}.debug"),
    );
    if let Some(folder) = symbols.parent() {
        make_dir(folder)?;
    }
    objcopy(
        &["--only-keep-debug", "--compress-debug-sections"],
        built,
        &symbols,
    )?;
    mode(&symbols, 0o644)
}

fn objcopy(args: &[&str], from: &Path, to: &Path) -> Result<(), String> {
    process::output(Command::new("objcopy").args(args).arg(from).arg(to)).map(drop)
}

fn build_id(program: &Path) -> Result<String, String> {
    let text = process::output(Command::new("readelf").arg("--notes").arg(program))?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: ").map(str::to_owned))
        .ok_or_else(|| format!("{} has no build id", program.display()))
}

fn changelog(build: &Build, package: &Package) -> Result<String, String> {
    let date = process::output(Command::new("date").args([
        "--utc",
        "--rfc-email",
        &format!("--date=@{}", build.epoch),
    ]))?;
    Ok(format!(
        "{} ({}) unstable; urgency=medium\n\n  * What is new: changelog.gz.\n\n -- {}  {}\n",
        package.name,
        build.version,
        super::deb::MAINTAINER,
        String::from_utf8_lossy(&date).trim()
    ))
}

/// Without name and time, so that equal text gives equal octets.
fn gzip(text: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start gzip: {e}"))?;
    let mut stdin = child.stdin.take().ok_or("gzip takes no input")?;
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &text));
    let done = child.wait_with_output().map_err(|e| format!("gzip: {e}"))?;
    match writer.join() {
        Ok(Ok(())) if done.status.success() => Ok(done.stdout),
        _ => Err("gzip failed".into()),
    }
}

pub fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_configuration_is_the_template_but_for_the_log() {
        let text = config().expect("the template");
        let parsed = cascade_policy::parse_config("config.toml", text.as_bytes());
        assert!(parsed.is_ok(), "{:?}", parsed.err());
        let template = cascade_policy::template_config();
        let differing = text
            .lines()
            .zip(template.lines())
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(differing, 1);
    }
}
