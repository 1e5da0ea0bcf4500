// What a hostile host could put among a guest's ACPI tables: bytecode that reaches for memory as the kernel starts it.
// scripts/guest_aml.py gives it to a guest and reads port 0x5F0. A probe tells its letter and `?` as it begins; where it
// was let, its letter, `=` and eight bytes of what it found. One that is refused ends there, and the next one begins.
DefinitionBlock ("", "SSDT", 2, "OBSCUR", "PROBES", 1)
{
    Scope (\_SB)
    {
        OperationRegion (PORT, SystemIO, 0x05F0, 1)
        Field (PORT, ByteAcc, NoLock, Preserve) { BYTE, 8 }

        Method (TRY, 1) { BYTE = Arg0  BYTE = 0x3F }
        Method (TELL, 2)
        {
            BYTE = Arg0
            BYTE = 0x3D
            Local0 = Arg1
            Local1 = 8
            While (Local1) { BYTE = Local0  Local0 >>= 8  Local1-- }
        }

        // RAM: read, changed, read again, and put back. Tells the difference that its own writing made.
        Device (PRBA)
        {
            Name (_ADR, 65)
            OperationRegion (MEM, SystemMemory, 0x10000000, 8)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI)
            {
                TRY (0x41)
                Local0 = WORD
                WORD = Local0 ^ 0x4F425343
                Local1 = WORD
                WORD = Local0
                TELL (0x41, Local0 ^ Local1)
            }
        }

        // The first mebibyte.
        Device (PRBB)
        {
            Name (_ADR, 66)
            OperationRegion (MEM, SystemMemory, 0x1000, 8)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x42)  TELL (0x42, WORD) }
        }

        // Across the end of memory, two bytes on each side.
        Device (PRBC)
        {
            Name (_ADR, 67)
            OperationRegion (MEM, SystemMemory, 0x7FFFFFFE, 4)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x43)  TELL (0x43, WORD) }
        }

        // The data of a table, by its name.
        Device (PRBD)
        {
            Name (_ADR, 68)
            DataTableRegion (MEM, "FACP", "", "")
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x44)  TELL (0x44, WORD) }
        }

        // A device, which every kernel must let it reach: the timer that a q35 machine has here.
        Device (PRBE)
        {
            Name (_ADR, 69)
            OperationRegion (MEM, SystemMemory, 0xFED00000, 8)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x45)  TELL (0x45, WORD) }
        }

        // The kernel's own addresses, by the number of the space that a table's data has. At this one every x86-64 kernel
        // keeps the processor's table of interrupts. The compiler refuses 0x7E: scripts/guest_aml.py puts it in the place
        // of 0xEE.
        Device (PRBF)
        {
            Name (_ADR, 70)
            OperationRegion (MEM, 0xEE, 0xFFFFFE0000000000, 8)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x46)  TELL (0x46, WORD) }
        }

        // RAM, under an address with a bit that a TEE could have for shared or private.
        Device (PRBG)
        {
            Name (_ADR, 71)
            OperationRegion (MEM, SystemMemory, 0x0008000010000000, 8)
            Field (MEM, DWordAcc, NoLock, Preserve) { WORD, 32 }
            Method (_INI) { TRY (0x47)  TELL (0x47, WORD) }
        }

        // RAM where the table of fixed hardware says that registers of events are: did the kernel write there?
        Device (PRBH)
        {
            Name (_ADR, 72)
            OperationRegion (MEM, SystemMemory, 0x10001000, 8)
            Field (MEM, ByteAcc, NoLock, Preserve) { WORD, 8 }
            Method (_INI) { TRY (0x48)  TELL (0x48, WORD) }
        }

        // Eight bytes, of which four are beyond the last address.
        Device (PRBI)
        {
            Name (_ADR, 73)
            OperationRegion (MEM, SystemMemory, 0xFFFFFFFFFFFFFFFC, 8)
            Field (MEM, QWordAcc, NoLock, Preserve) { WORD, 64 }
            Method (_INI) { TRY (0x49)  TELL (0x49, WORD) }
        }
    }
}
