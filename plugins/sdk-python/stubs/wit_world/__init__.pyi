# What componentize-py makes of the contract, for editors and type checkers: a build makes its own.
