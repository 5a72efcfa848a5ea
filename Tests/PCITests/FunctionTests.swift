// SPDX-License-Identifier: Apache-2.0

import IOMMU
import TestSupport
import Testing

@testable import PCI

@Suite("The ATS test device")
struct ATSTestDeviceTests {
  private let page = OnePage()
  private var function: Function {
    let function = Function(ATSTestDevice.self, path: page)
    function.command = [.memorySpace, .busMaster]
    return function
  }

  @Test("the address register takes 64 bits at once or each half on its own")
  func address() {
    let function = function
    function.write(0, 0x8877_6655_4433_2211, width: 8)
    #expect(function.read(0, width: 8) == 0x8877_6655_4433_2211)
    #expect(function.read(0) == 0x4433_2211)
    #expect(function.read(4) == 0x8877_6655)
    function.write(0, 0x1)
    function.write(4, 0x2)
    #expect(function.read(0, width: 8) == 0x2_0000_0001)
  }

  @Test("a copy moves a whole page into the buffer or out of it, and clears RUN")
  func copies() {
    let function = function
    page.fill(0x42)
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 3)
    #expect(function.read(8) == 2)
    page.fill(0)
    function.write(8, 1)
    #expect(function.read(8) == 0)
    #expect(page.contents == Array(repeating: 0x42, count: 4096))
    #expect(page.requests == 2)
  }

  @Test("a copy whose address does not translate moves no byte and ends")
  func fault() {
    let function = function
    page.fill(0x42)
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 3)
    function.write(0, 0xdead_0000, width: 8)
    function.write(8, 3)
    #expect(function.read(8) == 2)
    function.write(8, 1)
    page.fill(0)
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 1)
    #expect(page.contents == Array(repeating: 0x42, count: 4096))
  }

  @Test("a command without RUN starts no copy")
  func idle() {
    let function = function
    function.write(8, 2)
    #expect(function.read(8) == 2)
    #expect(page.requests == 0)
  }

  @Test("without Bus Master Enable a copy issues no request and still clears RUN")
  func busMaster() {
    let function = function
    function.command = .memorySpace
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 3)
    #expect(function.read(8) == 2)
    #expect(page.requests == 0)
  }

  @Test("without Memory Space Enable reads return ones and writes are dropped")
  func memorySpace() {
    let function = function
    function.write(0, 0x77)
    function.command = .busMaster
    function.write(0, 0x88)
    #expect(function.read(0) == .max)
    function.command = .memorySpace
    #expect(function.read(0) == 0x77)
  }

  @Test("offsets without a register read as ones", arguments: [UInt64(1), 2, 0xc, 0x1c, 0xffc])
  func otherOffsets(offset: UInt64) {
    let function = function
    function.write(offset, 0, width: 1)
    #expect(function.read(offset, width: 1) == .max)
  }

  @Test("a copy raises no interrupt")
  func silent() {
    let function = function
    let received = ReceivedInterrupts()
    function.setInterruptReceiver(received.add)
    function.enableMSIX()
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 1)
    #expect(received.drain().isEmpty)
  }
}

@Suite("Functions")
struct FunctionTests {
  private let function = Function(Bell.self)
  private let received = ReceivedInterrupts()

  init() {
    function.command = [.memorySpace, .busMaster]
    function.setInterruptReceiver(received.add)
  }

  @Test("a function level reset resets the registers and the model")
  func functionLevelReset() {
    function.write(8, 0x55)
    function.writeConfig(Type0Header.interruptLine, UInt8(9))
    function.writeConfig(0x88, UInt16(0x8000))
    #expect(function.command == [])
    #expect(function.readConfig(Type0Header.interruptLine, as: UInt8.self) == 0)
    #expect(function.readConfig(0x88, as: UInt16.self) & 0x8000 == 0)
    function.command = .memorySpace
    #expect(function.read(8) == 0)
  }

  @Test(
    "a write of any width to Initiate Function Level Reset resets the function",
    arguments: [1, 2, 4])
  func resetBit(width: Int) {
    function.write(8, 0x55)
    switch width {
    case 1: function.writeConfig(0x89, UInt8(0x80))
    case 2: function.writeConfig(0x88, UInt16(0x8000))
    default: function.writeConfig(0x88, UInt32(0x8000))
    }
    #expect(function.command == [])
  }

  @Test("a reset by the host restores configuration space and resets the model")
  func hostReset() {
    function.write(8, 0x55)
    function.enableMSIX()
    function.writeConfig(Type0Header.interruptLine, UInt8(9))
    function.resetKeepingConfiguration()
    #expect(function.command.contains([.memorySpace, .busMaster]))
    #expect(function.readConfig(Type0Header.interruptLine, as: UInt8.self) == 9)
    #expect(function.readConfig(0xd0 + MSIX.control, as: UInt16.self) & MSIX.enable != 0)
    #expect(function.read(8) == 0)
  }

  @Test("enable() clears Bus Master Enable and sets Memory Space Enable")
  func enable() {
    function.enable()
    #expect(function.command == .memorySpace)
  }

  @Test("messages are sent only while MSI-X and bus mastering are enabled")
  func messages() {
    function.write(0, 3)
    #expect(received.drain().isEmpty)
    function.enableMSIX()
    function.write(0, 3)
    #expect(received.drain() == [.message(vector: 3)])
    function.clearMaster()
    function.write(0, 3)
    #expect(received.drain().isEmpty)
    function.command = [.memorySpace, .busMaster]
    function.disableMessages()
    function.write(0, 3)
    #expect(received.drain().isEmpty)
  }

  @Test(
    "with fewer MSI vectors than the model uses, vectors share messages", arguments: [1, 2, 3, 4])
  func foldedMessages(vectors: Int) {
    function.enableMSI(vectors: vectors)
    function.write(0, 5)
    let allocated = [1, 2, 4, 4][vectors - 1]
    #expect(received.drain() == [.message(vector: 5 % allocated)])
  }

  @Test("INTx is a level that Interrupt Status shows and Interrupt Disable masks")
  func intx() {
    function.write(4, 1)
    #expect(received.drain() == [.intx])
    #expect(StatusRegister(rawValue: function.readConfig(Type0Header.status)).contains(.interrupt))
    #expect(function.maskINTxIfAsserted())
    #expect(function.command.contains(.interruptDisable))
    function.write(4, 1)
    #expect(received.drain().isEmpty)
    #expect(!function.unmaskINTxUnlessAsserted())
    function.write(4, 0)
    #expect(!StatusRegister(rawValue: function.readConfig(Type0Header.status)).contains(.interrupt))
    #expect(function.unmaskINTxUnlessAsserted())
    #expect(!function.command.contains(.interruptDisable))
  }

  @Test("INTx is not delivered while MSI is enabled")
  func intxAndMessages() {
    function.enableMSI(vectors: 1)
    function.write(4, 1)
    #expect(received.drain().isEmpty)
  }

  @Test("D3hot stops decoding, and the return to D0 resets the model and keeps configuration space")
  func power() {
    function.write(8, 0x55)
    function.setPowerState(.d3hot)
    #expect(function.read(8) == .max)
    #expect(function.readConfig(0x64, as: UInt16.self) & PowerManagement.powerStateMask == 3)
    function.setPowerState(.d0)
    #expect(function.command.contains([.memorySpace, .busMaster]))
    #expect(function.read(8) == 0)
  }
}
