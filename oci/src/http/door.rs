//! Which paths are answered at which addresses: those of clients, those of operators, or both at the same.

/// What is to be had at the addresses of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// All of it.
    Everything,
    /// What clients ask for; operators have addresses of their own.
    Clients,
    /// `/livez`, `/readyz`, `/metrics` and `/api`.
    Operators,
}

impl Door {
    /// Whether `path` is answered here.
    pub(super) fn leads_to(self, path: &str) -> bool {
        let of_operators =
            matches!(path, "/livez" | "/readyz" | "/metrics" | "/api") || path.starts_with("/api/");
        match self {
            Self::Everything => true,
            Self::Clients => !of_operators,
            Self::Operators => of_operators,
        }
    }
}
