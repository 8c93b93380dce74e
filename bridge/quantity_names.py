"""What quantities are called in French and in English; any other goes by its own name."""

QUANTITY_NAMES = {
    "fr": {
        "temperature": "Température",
        "humidity": "Humidité",
        "pressure": "Pression",
        "illuminance": "Éclairement",
        "co2": "CO₂",
        "voltage": "Tension",
        "cpu_temperature": "Température du processeur",
    },
    "en": {
        "temperature": "Temperature",
        "humidity": "Humidity",
        "pressure": "Pressure",
        "illuminance": "Illuminance",
        "co2": "CO₂",
        "voltage": "Voltage",
        "cpu_temperature": "Processor temperature",
    },
}


def quantity_name(quantity: str, language: str) -> str:
    """Return a quantity's name in fr or en."""
    return QUANTITY_NAMES[language].get(quantity, quantity)
