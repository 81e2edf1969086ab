//! A PKCS#11 module in this process: found, loaded, initialised, and never unloaded.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CkError, RvError};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::error::{Fault, ModuleError, rv_name};
use crate::raw::RawSign;

/// A loaded and initialised module. One for a process: modules keep their state in globals.
pub struct Module {
    file_name: String,
    pub(crate) p11: Pkcs11,
    pub(crate) raw_sign: RawSign,
    /// Held for reading during each call, for writing while the module is initialised again.
    calls: RwLock<()>,
    /// Counts initialisations; sessions and handles of an earlier one are void.
    generation: AtomicU64,
    /// Slots whose device answers.
    pub(crate) healthy: AtomicUsize,
}

/// How long initialising again waits for calls under way.
const QUIET: Duration = Duration::from_secs(1);

impl Module {
    /// Loads the module and initialises it. Its threads start here: call this after detaching and
    /// after dropping privileges.
    ///
    /// # Errors
    /// Each way in which the file may be unfit has its own variant. Nothing is loaded then, except
    /// after [`ModuleError::NotPkcs11`] and [`ModuleError::Refused`].
    pub fn load(path: &Path) -> Result<Module, ModuleError> {
        check_file(path)?;
        let p11 = Pkcs11::new(path).map_err(|e| load_error(path, e))?;
        // The library must stay: it may have threads and exit handlers of its own.
        std::mem::forget(p11.clone());
        let raw_sign = RawSign::of(path.as_os_str()).map_err(|why| ModuleError::NotLoadable {
            path: path.to_owned(),
            why,
        })?;
        initialise(&p11).map_err(|why| ModuleError::Refused {
            path: path.to_owned(),
            why,
        })?;
        let file_name = path.file_name().unwrap_or_default();
        Ok(Module {
            file_name: file_name.to_string_lossy().into_owned(),
            p11,
            raw_sign,
            calls: RwLock::new(()),
            generation: AtomicU64::new(1),
            healthy: AtomicUsize::new(0),
        })
    }

    /// The last component of the path.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// What the module says about itself: manufacturer, description, version.
    pub fn about(&self) -> String {
        let _calls = self.enter();
        match self.p11.get_library_info() {
            Ok(info) => format!(
                "{} {} {}",
                info.manufacturer_id(),
                info.library_description(),
                info.library_version()
            ),
            Err(error) => Fault::from(error).why,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be held during calls.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.calls.read()
    }

    /// The last resort when tokens have been replaced under the module: all its sessions end.
    /// False if a call under way does not return, or the module refuses.
    pub(crate) fn initialise_again(&self) -> Result<(), String> {
        let Some(_calls) = self.calls.try_write_for(QUIET) else {
            return Err("a call is still under way".into());
        };
        self.generation.fetch_add(1, Ordering::AcqRel);
        // A module that has lost its state says so here; that is no reason to stop.
        let _ = self.p11.clone().finalize();
        initialise(&self.p11)
    }

    /// Ends the use of the module. Calls fail afterwards.
    pub(crate) fn finish(&self) {
        if let Some(_calls) = self.calls.try_write_for(QUIET) {
            self.generation.fetch_add(1, Ordering::AcqRel);
            let _ = self.p11.clone().finalize();
        }
    }
}

fn initialise(p11: &Pkcs11) -> Result<(), String> {
    match p11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(CkError::Pkcs11(rv, _)) => Err(format!("C_Initialize: {}", rv_name(rv))),
        Err(error) => Err(error.to_string()),
    }
}

fn load_error(path: &Path, error: CkError) -> ModuleError {
    let path = path.to_owned();
    match error {
        CkError::MissingSymbol(_) => ModuleError::NotPkcs11 { path },
        CkError::LibraryLoading(e) => {
            let mut why = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(cause) = source {
                why = format!("{why}: {cause}");
                source = cause.source();
            }
            ModuleError::NotLoadable { path, why }
        }
        CkError::Pkcs11(rv, function) => ModuleError::Refused {
            path,
            why: format!("C_{function:?}: {}", rv_name(rv)),
        },
        other => ModuleError::NotLoadable {
            path,
            why: other.to_string(),
        },
    }
}

/// What can be known before code from the file runs in this process.
pub fn check_file(path: &Path) -> Result<(), ModuleError> {
    let owned = || path.to_owned();
    if !path.is_absolute() {
        return Err(ModuleError::NotAbsolute { path: owned() });
    }
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => ModuleError::Missing { path: owned() },
        _ => ModuleError::Unreadable {
            path: owned(),
            why: e.to_string(),
        },
    };
    // Follows links: a module is usually a link to the versioned file.
    let meta = fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(ModuleError::NotAFile { path: owned() });
    }
    if meta.permissions().mode() & 0o002 != 0 {
        return Err(ModuleError::WritableByOthers { path: owned() });
    }
    let mut header = Vec::with_capacity(20);
    let file = File::open(path).map_err(unreadable)?;
    file.take(20).read_to_end(&mut header).map_err(unreadable)?;
    check_elf(&header).map_err(|found| match found {
        None => ModuleError::NotElf { path: owned() },
        Some(found) => ModuleError::WrongArchitecture {
            path: owned(),
            found,
            expected: std::env::consts::ARCH,
        },
    })
}

/// (e_machine, name as in [`std::env::consts::ARCH`], 64 bits), from the ELF specification.
const MACHINES: [(u16, &str, bool); 9] = [
    (62, "x86_64", true),
    (183, "aarch64", true),
    (3, "x86", false),
    (40, "arm", false),
    (243, "riscv64", true),
    (21, "powerpc64", true),
    (22, "s390x", true),
    (258, "loongarch64", true),
    (8, "mips64", true),
];

/// `Err(None)` if it is no ELF file, `Err(Some)` with what it was built for.
fn check_elf(header: &[u8]) -> Result<(), Option<String>> {
    let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = header else {
        return Err(None);
    };
    if header.len() < 20 {
        return Err(None);
    }
    let machine = match order {
        2 => u16::from_be_bytes([*low, *high]),
        _ => u16::from_le_bytes([*low, *high]),
    };
    let bits = if *class == 2 { 64 } else { 32 };
    let known = MACHINES.iter().find(|(number, ..)| *number == machine);
    let name = known.map_or_else(
        || format!("machine {machine}"),
        |(_, name, _)| (*name).into(),
    );
    // An architecture that is not in the table is left to the loader.
    let ours = MACHINES
        .iter()
        .find(|(_, name, _)| *name == std::env::consts::ARCH);
    match ours {
        Some((number, _, wide)) if *number != machine || *wide != (bits == 64) => {
            Err(Some(format!("{name}, {bits} bits")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn write(folder: &Path, name: &str, octets: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, octets).expect("temporary file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
        path
    }

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut header = b"\x7fELF".to_vec();
        header.extend([class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        header.extend(machine.to_le_bytes());
        header.extend([0; 64]);
        header
    }

    #[test]
    fn files_that_are_no_modules() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = folder.path();
        type E = ModuleError;
        let text = write(at, "a.so", b"#!/bin/sh\n", 0o644);
        assert!(matches!(check_file(&text), Err(E::NotElf { .. })));
        let foreign = write(at, "b.so", &elf(2, 22), 0o644);
        let error = check_file(&foreign).expect_err("s390x");
        assert!(
            error
                .to_string()
                .contains("built for s390x, 64 bits, this machine is"),
            "{error}"
        );
        let narrow = write(at, "c.so", &elf(1, 3), 0o644);
        assert!(matches!(
            check_file(&narrow),
            Err(E::WrongArchitecture { .. })
        ));
        let open = write(at, "d.so", &elf(2, 62), 0o666);
        assert!(matches!(check_file(&open), Err(E::WritableByOthers { .. })));
        assert!(matches!(
            check_file(&at.join("e.so")),
            Err(E::Missing { .. })
        ));
        assert!(matches!(check_file(at), Err(E::NotAFile { .. })));
        assert!(matches!(
            check_file(Path::new("x.so")),
            Err(E::NotAbsolute { .. })
        ));
        for cut in 0..20 {
            let short = write(at, "f.so", &elf(2, 62)[..cut], 0o644);
            assert!(matches!(check_file(&short), Err(E::NotElf { .. })), "{cut}");
        }
    }

    #[test]
    fn a_library_of_another_kind() {
        let places = [
            "/lib/x86_64-linux-gnu",
            "/lib/aarch64-linux-gnu",
            "/lib64",
            "/usr/lib",
        ];
        let found = places.map(|folder| Path::new(folder).join("libm.so.6"));
        let Some(library) = found.into_iter().find(|path| path.exists()) else {
            return;
        };
        let error = Module::load(&library).err().expect("no module");
        assert!(matches!(error, ModuleError::NotPkcs11 { .. }), "{error}");
    }

    #[test]
    fn libraries_that_are_no_modules() {
        let folder = tempfile::tempdir().expect("temporary folder");
        // Right machine, and nothing behind the header.
        let machine = MACHINES
            .iter()
            .find(|(_, name, _)| *name == std::env::consts::ARCH)
            .map_or(62, |m| m.0);
        let broken = write(folder.path(), "g.so", &elf(2, machine), 0o755);
        let error = Module::load(&broken).err().expect("no library");
        assert!(matches!(error, ModuleError::NotLoadable { .. }), "{error}");
        assert!(error.to_string().contains("g.so"), "{error}");
    }
}
