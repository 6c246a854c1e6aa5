package console

// Paths returns the paths of the pages that can be shown, below the issuer.
func Paths() []string {
	var paths []string
	for i := range pages {
		if pages[i].get != nil {
			paths = append(paths, Path+pages[i].path)
		}
	}
	return paths
}

// Recipes returns the IDs of the known applications.
func Recipes() []string {
	var ids []string
	for i := range recipes {
		ids = append(ids, recipes[i].id)
	}
	return ids
}
