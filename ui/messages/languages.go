package messages

// languages has the rules of each language, from the Common Locale Data Repository of Unicode: those
// for plurals of whole numbers, dates and grouped digits.
var languages = [...]Language{
	{Tag: "en", Name: "English", plural: oneOther, forms: "one other", date: "{d} {M} {y}", clock: ", ", grouping: ",",
		months: "January February March April May June July August September October November December"},
	{Tag: "de", Name: "Deutsch", plural: oneOther, forms: "one other", date: "{d}. {M} {y}", clock: " um ", grouping: ".",
		months: "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"},
	{Tag: "fr", Name: "Français", plural: zeroIsOne, forms: "one other", date: "{d} {M} {y}", clock: " à ", grouping: "\u202f",
		months: "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"},
	{Tag: "es", Name: "Español", plural: oneOther, forms: "one other", date: "{d} de {M} de {y}", clock: ", ", grouping: ".", leastGroup: 5,
		months: "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"},
	{Tag: "pt", Name: "Português", plural: zeroIsOne, forms: "one other", date: "{d} de {M} de {y}", clock: " às ", grouping: ".",
		months: "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"},
	{Tag: "it", Name: "Italiano", plural: oneOther, forms: "one other", date: "{d} {M} {y}", clock: " alle ore ", grouping: ".",
		months: "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"},
	{Tag: "nl", Name: "Nederlands", plural: oneOther, forms: "one other", date: "{d} {M} {y}", clock: " om ", grouping: ".",
		months: "januari februari maart april mei juni juli augustus september oktober november december"},
	{Tag: "pl", Name: "Polski", plural: polish, forms: "one few many other", date: "{d} {M} {y}", clock: ", ", grouping: "\u00a0", leastGroup: 5,
		months: "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia"},
	{Tag: "ja", Name: "日本語", plural: onlyOther, forms: "other", date: "{y}年{M}月{d}日", clock: " ", grouping: ","},
	{Tag: "zh-Hans", Name: "简体中文", plural: onlyOther, forms: "other", date: "{y}年{M}月{d}日", clock: " ", grouping: ","},
	{Tag: "zh-Hant", Name: "繁體中文", plural: onlyOther, forms: "other", date: "{y}年{M}月{d}日", clock: " ", grouping: ","},
	{Tag: "ko", Name: "한국어", plural: onlyOther, forms: "other", date: "{y}년 {M}월 {d}일", clock: " ", grouping: ","},
	{Tag: "ar", Name: "العربية", rightToLeft: true, plural: arabic, forms: "zero one two few many other", date: "{d} {M} {y}", clock: " في ", grouping: ",",
		months: "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"},
}

func oneOther(n int) string {
	if n == 1 {
		return "one"
	}
	return "other"
}

// zeroIsOne is for languages that write zero in the singular.
func zeroIsOne(n int) string {
	if n == 0 || n == 1 {
		return "one"
	}
	return "other"
}

func onlyOther(int) string { return "other" }

func polish(n int) string {
	switch {
	case n == 1:
		return "one"
	case n%10 >= 2 && n%10 <= 4 && (n%100 < 12 || n%100 > 14):
		return "few"
	}
	return "many"
}

func arabic(n int) string {
	switch {
	case n == 0:
		return "zero"
	case n == 1:
		return "one"
	case n == 2:
		return "two"
	case n%100 >= 3 && n%100 <= 10:
		return "few"
	case n%100 >= 11:
		return "many"
	}
	return "other"
}
