package messages

// languages has the rules of each language, from the Common Locale Data Repository of Unicode: those
// for plurals of whole numbers, dates and grouped digits.
var languages = [...]Language{
	{Tag: "en", Name: "English", plural: oneOther, forms: "one other", date: "{d} {M} {y}", clock: ", ", grouping: ",",
		months: "January February March April May June July August September October November December"},
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
