from bigsleep.commands import main

if __name__ == "__main__":
    main(prog_name="bigsleep")
