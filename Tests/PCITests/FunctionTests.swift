import IOMMU
import TestSupport
import Testing

@testable import PCI

@Suite("The ATS test device")
struct ATSTestDeviceTests {
  private let page = OnePage()
  private var function: Function {
    let function = Function(ATSTestDevice.self, port: page)
    function.command = [.memorySpace, .busMaster]
    return function
  }

  @Test("the address is written whole or as two halves")
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

  @Test("memory to buffer to memory, whole pages, RUN clears")
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

  @Test("a copy that does not translate moves nothing and ends")
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

  @Test("without RUN nothing happens")
  func idle() {
    let function = function
    function.write(8, 2)
    #expect(function.read(8) == 2)
    #expect(page.requests == 0)
  }

  @Test("without bus mastering no request is made, and RUN still clears")
  func busMaster() {
    let function = function
    function.command = .memorySpace
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 3)
    #expect(function.read(8) == 2)
    #expect(page.requests == 0)
  }

  @Test("without memory space, reads are ones and writes go nowhere")
  func memorySpace() {
    let function = function
    function.write(0, 0x77)
    function.command = .busMaster
    function.write(0, 0x88)
    #expect(function.read(0) == .max)
    function.command = .memorySpace
    #expect(function.read(0) == 0x77)
  }

  @Test("other offsets read as ones", arguments: [UInt64(1), 2, 0xc, 0x1c, 0xffc])
  func otherOffsets(offset: UInt64) {
    let function = function
    function.write(offset, 0, width: 1)
    #expect(function.read(offset, width: 1) == .max)
  }

  @Test("no interrupt is raised by a copy")
  func silent() {
    let function = function
    let received = Received()
    function.setInterruptReceiver(received.add)
    function.enableMSIX()
    function.write(0, OnePage.iova, width: 8)
    function.write(8, 1)
    #expect(received.take().isEmpty)
  }
}

@Suite("Functions")
struct FunctionTests {
  private let function = Function(Bell.self)
  private let received = Received()

  init() {
    function.command = [.memorySpace, .busMaster]
    function.setInterruptReceiver(received.add)
  }

  @Test("function level reset forgets registers and model")
  func functionLevelReset() {
    function.write(8, 0x55)
    function.writeConfig(Header.interruptLine, UInt8(9))
    function.writeConfig(0x88, UInt16(0x8000))
    #expect(function.command == [])
    #expect(function.readConfig(Header.interruptLine, as: UInt8.self) == 0)
    #expect(function.readConfig(0x88, as: UInt16.self) & 0x8000 == 0)
    function.command = .memorySpace
    #expect(function.read(8) == 0)
  }

  @Test("the reset bit counts in a write of any width", arguments: [1, 2, 4])
  func resetBit(width: Int) {
    function.write(8, 0x55)
    switch width {
    case 1: function.writeConfig(0x89, UInt8(0x80))
    case 2: function.writeConfig(0x88, UInt16(0x8000))
    default: function.writeConfig(0x88, UInt32(0x8000))
    }
    #expect(function.command == [])
  }

  @Test("the host's reset keeps the configuration and not the model")
  func hostReset() {
    function.write(8, 0x55)
    function.enableMSIX()
    function.writeConfig(Header.interruptLine, UInt8(9))
    function.resetKeepingConfiguration()
    #expect(function.command.contains([.memorySpace, .busMaster]))
    #expect(function.readConfig(Header.interruptLine, as: UInt8.self) == 9)
    #expect(function.readConfig(0xd0 + MSIX.control, as: UInt16.self) & MSIX.enable != 0)
    #expect(function.read(8) == 0)
  }

  @Test("enabling clears bus mastering and decodes memory")
  func enable() {
    function.enable()
    #expect(function.command == .memorySpace)
  }

  @Test("messages go out only while enabled and mastering")
  func messages() {
    function.write(0, 3)
    #expect(received.take().isEmpty)
    function.enableMSIX()
    function.write(0, 3)
    #expect(received.take() == [.message(vector: 3)])
    function.clearMaster()
    function.write(0, 3)
    #expect(received.take().isEmpty)
    function.command = [.memorySpace, .busMaster]
    function.disableMessages()
    function.write(0, 3)
    #expect(received.take().isEmpty)
  }

  @Test("MSI folds causes onto the messages there are", arguments: [1, 2, 3, 4])
  func foldedMessages(vectors: Int) {
    function.enableMSI(vectors: vectors)
    function.write(0, 5)
    let given = [1, 2, 4, 4][vectors - 1]
    #expect(received.take() == [.message(vector: 5 % given)])
  }

  @Test("the pin is a level that the status register shows and the command register masks")
  func pin() {
    function.write(4, 1)
    #expect(received.take() == [.pin])
    #expect(Status(rawValue: function.readConfig(Header.status)).contains(.interrupt))
    #expect(function.maskPinIfAsserted())
    #expect(function.command.contains(.interruptDisable))
    function.write(4, 1)
    #expect(received.take().isEmpty)
    #expect(!function.unmaskPinUnlessAsserted())
    function.write(4, 0)
    #expect(!Status(rawValue: function.readConfig(Header.status)).contains(.interrupt))
    #expect(function.unmaskPinUnlessAsserted())
    #expect(!function.command.contains(.interruptDisable))
  }

  @Test("enabled messages silence the pin")
  func pinAndMessages() {
    function.enableMSI(vectors: 1)
    function.write(4, 1)
    #expect(received.take().isEmpty)
  }

  @Test("D3hot stops decoding; leaving it resets the model and keeps the configuration")
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
