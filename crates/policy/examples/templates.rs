//! Prints a template: `templates policy` or `templates config`, as checked in under `etc/`.

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("policy") => print!("{}", cascade_policy::template_policy()),
        Some("config") => print!("{}", cascade_policy::template_config()),
        _ => {
            eprintln!("usage: templates policy|config");
            std::process::exit(2);
        }
    }
}
