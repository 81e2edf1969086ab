//! Prints a template: `templates policy`, `templates config` or `templates bridge`, as checked in under `etc/`.

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("policy") => print!("{}", cascade_policy::template_policy()),
        Some("config") => print!("{}", cascade_policy::template_config()),
        Some("bridge") => print!("{}", cascade_policy::template_bridge()),
        _ => {
            eprintln!("usage: templates policy|config|bridge");
            std::process::exit(2);
        }
    }
}
