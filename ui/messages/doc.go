// Package messages has the texts of the pages and of the mail, in every language.
//
// A language is a file, such as en.json: a flat JSON object of keys and texts in the message
// format of ICU, which translation tools read. A text can contain
//
//   - arguments: {name},
//   - plurals: {count, plural, one {# minute} other {# minutes}}, with every form of the language,
//   - tags, whose meaning the template supplies: <link>Sign in</link>; <strong> is always known.
//
// Apostrophes are typographic (’), because ICU quotes with the ASCII one.
package messages
