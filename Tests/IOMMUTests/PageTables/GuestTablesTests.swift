// SPDX-License-Identifier: Apache-2.0

import Host
import TestSupport
import Testing

@testable import IOMMU

/// Page table entries in the memory of another process.
@Suite struct GuestTablesTests {
  @Test(
    "entries in the memory of another process can be read and compared and exchanged until the process ends"
  )
  func entriesInAnotherProcess() throws {
    let memory = try PhysicalMemory(.test)
    let child = try ForkedProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    let tables = GuestTableMemory(memory)
    let place = run.page(0)
    #expect(tables.load(place) == 0x1111)
    #expect(tables.update(place, from: 0x1110, to: 1) == .changed)
    #expect(tables.update(place, from: 0x1111, to: 0x1111) == .stored)
    #expect(tables.update(place, from: 0x1111, to: 0x8000_0000_0000_1151) == .stored)
    #expect(tables.load(place) == 0x8000_0000_0000_1151)
    child.end()
    #expect(tables.load(place) == nil)
    #expect(tables.update(place, from: 0, to: 1) == .failed)
    memory.unpin(run)
    #expect(tables.load(place) == nil)
    #expect(tables.update(place, from: 0, to: 1) == .failed)
    #expect(tables.load(PhysicalAddress(1 << 60)) == nil)
  }

  @Test("walkers that mark one entry at the same time lose no flag")
  func flagsAreNeverLost() async throws {
    let memory = try PhysicalMemory(.test)
    let child = try ForkedProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    let place = run.page(1)
    await withTaskGroup(of: Void.self) { group in
      for walker in 0..<4 {
        group.addTask {
          let tables = GuestTableMemory(memory)
          for bit in 0..<16 {
            let flag = UInt64(1) << UInt64(bit * 4 + walker)
            while let entry = tables.load(place), entry & flag == 0 {
              _ = tables.update(place, from: entry, to: entry | flag)
            }
          }
        }
      }
    }
    #expect(memory.word(at: place) == .max)
    child.end()
  }
}
