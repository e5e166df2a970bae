"""From pixels to heights to measurements. Knows neither windows nor devices."""
