// Package theme has the appearance of the pages that an operator can choose: colors for the light and
// the dark scheme, corners, a logo and a font. It refuses colors that not everyone can read (WCAG 2.2,
// level AA).
package theme
