//! Colours: the palette of Okabe and Ito, which people with any colour vision can tell apart, and greys.

/// Red, green, blue and opacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour(pub u8, pub u8, pub u8, pub f64);

impl Colour {
    /// The same with another opacity, 0 to 1.
    pub const fn with_alpha(self, alpha: f64) -> Self {
        Self(self.0, self.1, self.2, alpha)
    }
}

/// Paper.
pub const WHITE: Colour = Colour(255, 255, 255, 1.0);
/// Titles and labels.
pub const INK: Colour = Colour(26, 26, 26, 1.0);
/// Subtitles, axis labels.
pub const GREY: Colour = Colour(96, 96, 96, 1.0);
/// Axes.
pub const AXIS: Colour = Colour(150, 150, 150, 1.0);
/// Grid lines.
pub const GRID: Colour = Colour(226, 226, 226, 1.0);
/// Okabe-Ito blue.
pub const BLUE: Colour = Colour(0, 114, 178, 1.0);
/// Okabe-Ito sky blue.
pub const SKY: Colour = Colour(86, 180, 233, 1.0);
/// Okabe-Ito bluish green.
pub const GREEN: Colour = Colour(0, 158, 115, 1.0);
/// Okabe-Ito yellow.
pub const YELLOW: Colour = Colour(240, 228, 66, 1.0);
/// Okabe-Ito orange.
pub const ORANGE: Colour = Colour(230, 159, 0, 1.0);
/// Okabe-Ito vermillion.
pub const VERMILLION: Colour = Colour(213, 94, 0, 1.0);
/// Okabe-Ito reddish purple.
pub const PURPLE: Colour = Colour(204, 121, 167, 1.0);

/// Cycles without a cause, as at fidelity `bound`.
pub const NO_CAUSE: Colour = Colour(232, 232, 232, 1.0);

/// The colour of each cause, in the order of `Causes::entries`: the array's own in green to vermillion, data in
/// blues, control in greys. Neighbours in a stack differ in lightness.
pub const CAUSES: [Colour; 11] = [
    GREEN,
    YELLOW,
    ORANGE,
    VERMILLION,
    PURPLE,
    Colour(205, 205, 205, 1.0),
    Colour(140, 140, 140, 1.0),
    Colour(188, 222, 245, 1.0),
    Colour(40, 40, 40, 1.0),
    BLUE,
    SKY,
];
