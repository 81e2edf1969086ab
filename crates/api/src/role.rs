//! Who may do what: viewer ⊂ operator ⊂ admin, viewer ⊂ approver ⊂ admin.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Viewer,
    Operator,
    Approver,
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Admin => "admin",
        }
    }

    /// The roles contained in this one, as bits of [`Roles`].
    const fn closure(self) -> u8 {
        match self {
            Role::Viewer => 0b0001,
            Role::Operator => 0b0011,
            Role::Approver => 0b0101,
            Role::Admin => 0b1111,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Role::Viewer => 0b0001,
            Role::Operator => 0b0010,
            Role::Approver => 0b0100,
            Role::Admin => 0b1000,
        }
    }
}

/// A set of roles, closed under containment. Empty: anonymous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    pub const NONE: Roles = Roles(0);

    pub fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn with(self, role: Role) -> Roles {
        Roles(self.0 | role.closure())
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Roles {
        Roles(role.closure())
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        roles.into_iter().fold(Roles::NONE, Roles::with)
    }
}

/// The highest roles only: "operator, approver".
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        if self.has(Role::Admin) {
            return f.write_str("admin");
        }
        let mut names: Vec<&str> = [Role::Operator, Role::Approver]
            .into_iter()
            .filter(|r| self.has(*r))
            .map(Role::as_str)
            .collect();
        if names.is_empty() {
            names.push("viewer");
        }
        f.write_str(&names.join(", "))
    }
}

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Also anonymous.
    Any,
    Needs(Role),
}

impl Access {
    pub fn allows(self, roles: Roles) -> bool {
        match self {
            Access::Any => true,
            Access::Needs(role) => roles.has(role),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Access::Any => "any",
            Access::Needs(role) => role.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_and_approver_do_not_include_each_other() {
        let table = [
            (Role::Viewer, [true, false, false, false]),
            (Role::Operator, [true, true, false, false]),
            (Role::Approver, [true, false, true, false]),
            (Role::Admin, [true, true, true, true]),
        ];
        for (held, may) in table {
            for (needed, may) in Role::ALL.into_iter().zip(may) {
                assert_eq!(
                    Access::Needs(needed).allows(held.into()),
                    may,
                    "{held:?} {needed:?}"
                );
            }
        }
        let both: Roles = [Role::Operator, Role::Approver].into_iter().collect();
        assert!(!both.has(Role::Admin));
        assert_eq!(both.to_string(), "operator, approver");
        assert!(!Access::Needs(Role::Viewer).allows(Roles::NONE));
        assert!(Access::Any.allows(Roles::NONE));
    }
}
