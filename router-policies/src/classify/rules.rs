//! Demands that leave no doubt about the family, so that no model is asked. Each looks at something a client says on
//! purpose, never at a word that may stand in any text.

use super::family::Family;
use crate::features::Features;

/// The family that a demand fixes.
pub(super) fn certain(features: &Features) -> Option<Family> {
    if features.call_demanded {
        return Some(Family::FunctionCall);
    }
    if features.infill {
        return Some(Family::Infill);
    }
    features.form_demanded.then_some(Family::Extraction)
}
