"""The chart: properties of all that it renders, for every values file in chart/ci."""
