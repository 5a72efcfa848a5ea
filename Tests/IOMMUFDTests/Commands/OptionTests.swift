// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Host
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct OptionTests {
  private func option(
    _ file: ControlFile, _ option: UInt32, op: UInt16, object: UInt32 = 0, value: UInt64 = 0,
    reserved: UInt16 = 0
  ) -> Result<UInt64, Errno> {
    var command = iommu_option(
      size: 24, option_id: option, op: op, __reserved: reserved, object_id: object, val64: value)
    if let error = file.call(.option, &command) { return .failure(error) }
    return .success(command.val64)
  }

  @Test("IOMMU_OPTION_RLIMIT_MODE can be set only while the file has no object")
  func rlimitMode() throws {
    let file = try ControlFile(client: InProcessClient(capabilities: [.sysResource]))
    defer { file.close() }
    #expect(option(file, 0, op: 1, value: 9) == .success(0))
    #expect(option(file, 0, op: 0, value: 1) == .success(1))
    #expect(option(file, 0, op: 1) == .success(1))
    #expect(option(file, 0, op: 0, value: 2) == .failure(.invalidArgument))
    #expect(option(file, 0, op: 0, value: 0) == .success(0))
    _ = try file.makeIOAS()
    #expect(option(file, 0, op: 0, value: 0) == .failure(.resourceBusy))
    // Whether the option can be set is checked before the value.
    #expect(option(file, 0, op: 0, value: 2) == .failure(.resourceBusy))
    #expect(option(file, 0, op: 1) == .success(0))
    #expect(file.destroy(1) == nil)
    #expect(option(file, 0, op: 0, value: 1) == .success(1))
  }

  @Test("IOMMU_OPTION_RLIMIT_MODE requires CAP_SYS_RESOURCE")
  func rlimitModeNeedsCapability() throws {
    let process = try ChildProcess.unprivileged(user: 65534, lockablePages: 16)
    let file = try ControlFile(client: InProcessClient(identity: process.task))
    defer { file.close() }
    #expect(option(file, 0, op: 0, value: 2) == .failure(.notPermitted))
    #expect(option(file, 0, op: 1) == .success(0))
    #expect(option(file, 0, op: 2) == .failure(.notSupported))
    #expect(option(file, 0, op: 0, object: 1) == .failure(.notSupported))
  }

  @Test("IOMMU_OPTION_HUGE_PAGES looks up the IOAS before it checks the operation")
  func hugePages() throws {
    let file = try ControlFile()
    defer { file.close() }
    #expect(option(file, 1, op: 1, object: 1) == .failure(.noSuchFileOrDirectory))
    // The object is looked up before the operation is checked.
    #expect(option(file, 1, op: 2, object: 1) == .failure(.noSuchFileOrDirectory))
    let id = try file.makeIOAS()
    #expect(option(file, 1, op: 1, object: id, value: 5) == .success(1))
    #expect(option(file, 1, op: 0, object: id, value: 2) == .failure(.invalidArgument))
    #expect(option(file, 1, op: 2, object: id) == .failure(.notSupported))
    #expect(option(file, 1, op: 0, object: id, value: 0) == .success(0))
    #expect(option(file, 1, op: 1, object: id) == .success(0))
    #expect(option(file, 1, op: 0, object: id, value: 1) == .success(1))
    #expect(option(file, 1, op: 1, object: id) == .success(1))
  }

  @Test("an unknown option and a reserved field that is not 0 are refused")
  func unknown() throws {
    let file = try ControlFile()
    defer { file.close() }
    for number: UInt32 in [2, 3, .max] {
      #expect(option(file, number, op: 1) == .failure(.notSupported))
    }
    #expect(option(file, 0, op: 1, reserved: 1) == .failure(.notSupported))
    #expect(option(file, 1, op: 1, object: 9, reserved: 1) == .failure(.notSupported))
  }

  @Test("only the value is written, and a SET takes effect when the value cannot be written")
  func answersInReadOnlyMemory() throws {
    let file = try ControlFile()
    defer { file.close() }
    let id = try file.makeIOAS()
    let memory = TestMemory(pages: 2)
    // Only the value is in the second page.
    let offset = TestMemory.page - 16
    memory.store(
      iommu_option(size: 24, option_id: 1, op: 0, __reserved: 0, object_id: id, val64: 0),
      at: offset)
    memory.protect(.read, page: 0)
    #expect(file.call(.option, memory.address + UInt64(offset)) == .success(0))
    memory.protect(.readWrite)
    memory.store(UInt64(1), at: TestMemory.page)
    memory.protect(.read)
    #expect(file.call(.option, memory.address + UInt64(offset)) == .failure(.badAddress))
    #expect(option(file, 1, op: 1, object: id) == .success(1))
  }
}
