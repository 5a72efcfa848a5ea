// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// A page table with one domain and its own physical memory, which counts the pinned frames.
struct PinFixture {
  let memory: PhysicalMemory
  let table: IOPageTable
  let domain: RecordingDomain
  let client = InProcessClient()

  init() throws {
    memory = try PhysicalMemory(.test)
    table = IOPageTable(memory: memory, host: PinningHost())
    domain = try RecordingDriver().newDomain()
    try table.addDomain(domain)
  }

  /// - Returns: The errno, or `nil`.
  @discardableResult
  func map(
    _ mapping: TestMapping, page: Int = 0, pages: Int = 1, writable: Bool = true,
    at iova: UInt64 = 0x10000
  ) -> Errno? {
    map(mapping.address + UInt64(page * 4096), UInt64(pages * 4096), writable: writable, at: iova)
  }

  @discardableResult
  func map(_ address: UInt64, _ length: UInt64, writable: Bool, at iova: UInt64) -> Errno? {
    do throws(Errno) {
      _ = try table.map(
        userAddress: address, length: length, at: IOVA(iova),
        permissions: writable ? [.read, .write] : .read, accounting: .user, client: client)
      return nil
    } catch {
      return error
    }
  }

  func mapFile(_ file: Int32, _ start: UInt64, _ length: UInt64, writable: Bool = true) -> Errno? {
    do throws(Errno) {
      _ = try table.map(
        file: file, start: start, length: length, at: 0x10000,
        permissions: writable ? [.read, .write] : .read, accounting: .user, client: client)
      return nil
    } catch {
      return error
    }
  }

  func word(at iova: UInt64) -> UInt64? {
    domain.physicalAddress(of: IOVA(iova)).flatMap { memory.word(at: $0) }
  }

  func store(_ value: UInt64, at iova: UInt64) throws {
    let physical = try #require(domain.physicalAddress(of: IOVA(iova)))
    #expect(withUnsafeBytes(of: value) { memory.write($0, to: physical) } == .done)
  }
}
