"""What every part stands on: configuration, errors, contracts of data, files, result files, pages."""
