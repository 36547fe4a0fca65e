//! The built-in file: `pod-identity-local sample` prints it.

/// A world with one cluster, one role and one association.
pub const SAMPLE: &str = include_str!("sample.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn the_sample_is_a_world() {
        let world = World::from_yaml(SAMPLE).unwrap();
        assert_eq!(world.associations.associations.len(), 1);
    }
}
